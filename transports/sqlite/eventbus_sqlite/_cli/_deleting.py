"""Deleting a queue that nobody needs any more: there is no management page for a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from eventbus._errors import ConfigurationError, EventBusError
from eventbus_sqlite._cli._reading import check_file, our_words, read, schema_of
from eventbus_sqlite._options import Options
from eventbus_sqlite._schema import VERSION
from eventbus_sqlite._store import Store

_PATIENCE = 30.0


class NotDeleted(EventBusError):
    """The queue has consumers, or messages that were not meant to be deleted."""


def delete_queue(path: Path, name: str, *, with_messages: bool) -> int:
    """Delete a queue with its bindings; how many messages went with it.

    :raises NotDeleted: it is in use, or not empty. :raises ConfigurationError: there is no such queue, or the file has
        an older schema version. :raises EventBusError: it cannot be written.
    """
    check_file(path)
    if read(path, lambda connection: schema_of(connection, path)) != VERSION:
        raise ConfigurationError(f"{path} has an older schema version: start a bus with it first")
    with our_words(path), closing(Store(path, Options())) as store:
        store.connection.execute(f"PRAGMA busy_timeout = {_PATIENCE * 1000:.0f}")
        store.start(None, durable=False)
        try:
            queue = store.queues.get(name)
            if queue is None:
                raise ConfigurationError(f"there is no queue {name!r} in {path}")
            (count,) = store.connection.execute(
                "SELECT (SELECT count(*) FROM ready WHERE queue = ?1) + (SELECT count(*) FROM held WHERE queue = ?1) "
                "+ (SELECT count(*) FROM scheduled WHERE queue = ?1)",
                (queue.id,),
            ).fetchone()
            if queue.consumers:
                raise NotDeleted(f"queue {name!r} is in use, by {len(queue.consumers)} consumers: stop them first")
            if count and not with_messages:
                raise NotDeleted(f"queue {name!r} has {count} messages: --messages deletes them too")
            store.delete_queue(queue)
            store.commit()
        except BaseException:
            store.rollback()
            raise
    return int(count)
