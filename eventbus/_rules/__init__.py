"""RabbitMQ's rules for queues and dead letters, for transports that are their own broker: in memory, in a file."""
