"""Operations by aiormq: each is one question to the broker, and its answer."""

from __future__ import annotations

import logging
from typing import Any

import aiormq

from eventbus.transport import QueueCount
from eventbus_rabbitmq import _port as port


async def perform(connection: Any, operation: port.Operation) -> Any:
    """Ask the broker for one thing; gives the operation's result."""
    if isinstance(operation, port.OpenChannel):
        channel = await connection.channel(publisher_confirms=False)
        return channel, channel.number
    channel: Any = operation.channel  # type: ignore[no-redef]
    match operation:
        case port.CloseChannel():
            if not channel.is_closed:
                await channel.close()
        case port.ConfirmSelect():
            await channel.confirm_delivery()
        case port.DeclareExchange(_, name, kind, passive, durable, auto_delete, internal, arguments):
            await channel.exchange_declare(
                name, exchange_type=kind, passive=passive, durable=durable, auto_delete=auto_delete,
                internal=internal, arguments=dict(arguments),
            )  # fmt: skip
        case port.DeclareQueue(_, name, passive, durable, exclusive, auto_delete, arguments):
            declared = await channel.queue_declare(
                name, passive=passive, durable=durable, exclusive=exclusive, auto_delete=auto_delete,
                arguments=dict(arguments),
            )  # fmt: skip
            return declared.queue
        case port.CountQueue(_, queue):
            declared = await channel.queue_declare(queue, passive=True)
            return QueueCount(ready=declared.message_count, consumers=declared.consumer_count)
        case port.BindQueue(_, queue, exchange, pattern, arguments):
            await channel.queue_bind(queue, exchange, routing_key=pattern, arguments=dict(arguments))
        case port.BindExchange(_, exchange, source, pattern, arguments):
            await channel.exchange_bind(exchange, source, routing_key=pattern, arguments=dict(arguments))
        case port.Qos(_, prefetch):
            await channel.basic_qos(prefetch_count=prefetch, global_=False)
        case port.Consume(_, queue, tag, no_ack, exclusive):
            await channel.basic_consume(queue, _never, no_ack=no_ack, exclusive=exclusive, consumer_tag=tag)
        case port.CancelConsumer(_, tag):
            await channel.basic_cancel(tag)
    return None


async def update_secret(connection: Any, secret: str, timeout: float) -> None:
    """Give the broker a new password or token, and keep it out of the log: aiormq writes every frame to its own."""
    logging.getLogger("aiormq.connection").addFilter(_without_secrets)  # once: it knows its filters
    await connection.update_secret(secret, reason="renewed", timeout=timeout)


# Class 10, method 70: connection.update-secret, behind seven bytes of every frame.
_UPDATE_SECRET = b"\0\x0a\0\x46"


def _without_secrets(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(getattr(each, "payload", b"")[7:11] == _UPDATE_SECRET for each in arguments)


async def _never(message: Any) -> None:
    """aiormq's own consumer callback: the lane has taken the delivery before."""


_CODES = {
    aiormq.exceptions.ChannelNotFoundEntity: 404,
    aiormq.exceptions.ChannelAccessRefused: 403,
    aiormq.exceptions.ChannelPreconditionFailed: 406,
    aiormq.exceptions.ChannelLockedResource: 405,
}


def told_by_close(error: Exception) -> tuple[int, str]:
    """Code and text with which the broker closed the channel.

    aiormq has a class for some codes, which holds the text alone; the others hold both.
    """
    text = str(error.args[-1]) if error.args else ""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code, text
    code = error.args[0] if len(error.args) > 1 else 0
    return (code if isinstance(code, int) else 0), text
