"""Engines behind :mod:`eventbus_rabbitmq.local_broker`: an installed RabbitMQ, or a Docker container."""
