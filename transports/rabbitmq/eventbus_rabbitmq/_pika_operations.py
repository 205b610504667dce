"""Operations by pika: each is one question to the broker, and its answer by callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from eventbus import ConnectionFailed
from eventbus.transport import QueueCount
from eventbus_rabbitmq import _port as port
from eventbus_rabbitmq._errors import channel_error
from eventbus_rabbitmq._operations import describe


class Run:
    """One sequence: yields an operation, gets its answer by callback, goes on."""

    def __init__(self, connection: Any, steps: port.Steps[Any], done: Callable[[Any, Exception | None], None]) -> None:
        self._connection = connection
        self._steps = steps
        self._done = done

    def go(self, value: Any, error: Exception | None) -> None:
        """The last operation ended so; do the next."""
        try:
            operation = self._steps.throw(error) if error is not None else self._steps.send(value)
        except StopIteration as end:
            self._done(end.value, None)
            return
        except Exception as failure:
            self._done(None, failure)
            return
        answer = Answer(self.go)
        try:
            _start(self._connection, operation, answer)
        except Exception as failure:  # pika refuses it, as its connection or channel is closing
            answer.error(ConnectionFailed(f"the connection is closing: {failure}"))


class Answer:
    """The end of one operation: by its reply or by its channel's close, whichever comes first."""

    def __init__(self, go: Callable[[Any, Exception | None], None]) -> None:
        self._go = go
        self._ended = False
        self._among: dict[Answer, str] = {}

    def asked(self, among: dict[Answer, str], what: str) -> None:
        """It is one of those that the close of their channel ends."""
        self._among = among
        among[self] = what

    def value(self, value: Any) -> None:
        self._end(value, None)

    def error(self, error: Exception) -> None:
        self._end(None, error)

    def _end(self, value: Any, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._among.pop(self, None)
            self._go(value, error)

    def closed(self, what: str, reason: Exception) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            self.error(channel_error(reason.reply_code, reason.reply_text, what)[0])
        # A lost connection ends the sequence without an answer: its owner is told of the loss.


def _start(connection: Any, operation: port.Operation, answer: Answer) -> None:
    if isinstance(operation, port.OpenChannel):
        channel = connection.channel(on_open_callback=lambda c: answer.value((c, c.channel_number)))
        # One callback for all that is asked on it: pika would keep one for each operation as long as the channel.
        asked: dict[Answer, str] = {}
        connection.asked[channel.channel_number] = asked
        answer.asked(asked, "a new channel")
        channel.add_on_close_callback(lambda _, reason: _end_all(asked, reason))
        return
    if isinstance(operation, port.CloseChannel):
        if operation.channel.is_open:
            close_at_once(operation.channel)
        answer.value(None)
        return
    channel = operation.channel
    answer.asked(connection.asked[channel.channel_number], describe(operation))
    _ask(channel, operation, answer)


def _end_all(asked: dict[Answer, str], reason: Exception) -> None:
    for answer, what in list(asked.items()):
        answer.closed(what, reason)


def close_at_once(channel: Any) -> None:
    """Close a channel without cancelling its consumers first, as pika would.

    The broker then gives what is unsettled back in one step with the consumers' end. After a cancel, the next consumer
    of a queue would get later messages before those.
    """
    channel._consumers.clear()
    channel.close()


def _ask(channel: Any, operation: port.Operation, answer: Answer) -> None:
    def reply(frame: Any) -> None:
        answer.value(None)

    match operation:
        case port.ConfirmSelect():
            channel.confirm_delivery(lambda frame: None, callback=reply)
        case port.DeclareExchange(_, name, kind, passive, durable, auto_delete, internal, arguments):
            channel.exchange_declare(name, kind, passive, durable, auto_delete, internal, dict(arguments), reply)
        case port.DeclareQueue(_, name, passive, durable, exclusive, auto_delete, arguments):
            channel.queue_declare(
                name, passive, durable, exclusive, auto_delete, dict(arguments), lambda f: answer.value(f.method.queue)
            )
        case port.CountQueue(_, queue):
            channel.queue_declare(queue, passive=True, callback=lambda f: answer.value(_count(f.method)))
        case port.BindQueue(_, queue, exchange, pattern, arguments):
            channel.queue_bind(queue, exchange, pattern, dict(arguments), reply)
        case port.BindExchange(_, exchange, source, pattern, arguments):
            channel.exchange_bind(exchange, source, pattern, dict(arguments), reply)
        case port.Qos(_, prefetch):
            channel.basic_qos(prefetch_count=prefetch, callback=reply)
        case port.Consume(_, queue, tag, no_ack, exclusive):
            channel.basic_consume(queue, _never, no_ack, exclusive, tag, callback=reply)
        case port.CancelConsumer(_, tag):
            channel.basic_cancel(tag, reply)
        case _:
            raise AssertionError(operation)


def _count(declared: Any) -> QueueCount:
    return QueueCount(ready=declared.message_count, consumers=declared.consumer_count)


def _never(*delivery: Any) -> None:
    """pika's own consumer callback: the lane has taken the delivery before."""
