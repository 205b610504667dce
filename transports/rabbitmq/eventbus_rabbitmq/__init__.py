"""RabbitMQ transport of eventbus: sync on pika, async on aio-pika."""

from eventbus_rabbitmq._options import Credentials, RabbitMQOptions, Secret, TLSFiles
from eventbus_rabbitmq._transport import RabbitMQTransport

__all__ = ["Credentials", "RabbitMQOptions", "RabbitMQTransport", "Secret", "TLSFiles"]
