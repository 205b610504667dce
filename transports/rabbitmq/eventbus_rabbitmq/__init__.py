"""RabbitMQ transport of eventbus: sync on pika, async on aio-pika."""

from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._transport import RabbitMQTransport

__all__ = ["RabbitMQOptions", "RabbitMQTransport"]
