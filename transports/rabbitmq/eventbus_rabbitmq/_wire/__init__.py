"""AMQP 0-9-1 on the wire, without I/O."""
