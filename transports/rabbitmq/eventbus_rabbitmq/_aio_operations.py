"""Operations by aiormq: each is one question to the broker, and its answer."""

from __future__ import annotations

from typing import Any

import aiormq

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
