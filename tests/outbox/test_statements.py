"""How statements are written, and that the two descriptions of each table are one."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest
import sqlalchemy
from eventbus_inbox import AsyncInbox, Inbox
from eventbus_outbox import AsyncOutbox, AsyncRelay, Outbox, Relay
from eventbus_outbox.sql import placed

from eventbus import ConfigurationError, EventBus
from tests.outbox.places import Place

SQL = "SELECT :one, CAST(:two AS text), :one, a::text FROM t"


@pytest.mark.parametrize(
    ("style", "sql", "order"),
    [
        ("named", SQL, None),
        ("pyformat", "SELECT %(one)s, CAST(%(two)s AS text), %(one)s, a::text FROM t", None),
        ("qmark", "SELECT ?, CAST(? AS text), ?, a::text FROM t", ("one", "two", "one")),
        ("format", "SELECT %s, CAST(%s AS text), %s, a::text FROM t", ("one", "two", "one")),
        ("numeric", "SELECT :1, CAST(:2 AS text), :3, a::text FROM t", ("one", "two", "one")),
    ],
)
def test_placeholders_are_those_of_the_module(style: str, sql: str, order: tuple[str, ...] | None) -> None:
    assert placed(SQL, style) == (sql, order)


def test_an_unknown_style_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="paramstyle"):
        placed(SQL, "smoke signals")


def described(engine: sqlalchemy.Engine, table: str) -> Any:
    look = sqlalchemy.inspect(engine)
    columns = [
        (c["name"], str(c["type"]), c["nullable"], str(c.get("default") or "").strip("'()"))
        for c in look.get_columns(table)
    ]
    indexes = [(i["name"], i["column_names"], i["unique"]) for i in look.get_indexes(table)]
    return columns, indexes, look.get_pk_constraint(table)["constrained_columns"]


@pytest.mark.parametrize("kind", ["outbox", "inbox"])
def test_the_sql_and_sqlalchemys_description_make_the_same_table(place: Place, kind: str) -> None:
    engine = sqlalchemy.create_engine(place.url)
    made: Any
    made = Outbox(EventBus("memory://names", service="shop")) if kind == "outbox" else Inbox(engine)
    table = made.table(sqlalchemy.MetaData())
    with engine.begin() as connection:
        made.create(connection)
    by_sql = described(engine, table.name)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"DROP TABLE {table.name}"))
    table.metadata.create_all(engine)
    assert described(engine, table.name) == by_sql
    engine.dispose()


def test_the_twins_have_the_same_methods_and_parameters() -> None:
    for ours, theirs in ((Outbox, AsyncOutbox), (Relay, AsyncRelay), (Inbox, AsyncInbox)):
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
        names = {n for n, m in inspect.getmembers(ours, inspect.isfunction) if not n.startswith("_")}
        assert names == {n for n, m in inspect.getmembers(theirs, inspect.isfunction) if not n.startswith("_")}
        for name in names:
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert list(inspect.signature(mine).parameters) == list(inspect.signature(other).parameters), name
            waits = inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)
            assert waits is (name not in {"definition", "table", "status"}), name


def test_a_relay_leaves_no_thread(place: Place) -> None:
    before = threading.active_count()
    bus = EventBus("memory://threads", service="shop")
    with Relay(bus, place.url, poll=0.05):
        assert threading.active_count() > before
    bus.stop()
    assert threading.active_count() == before
