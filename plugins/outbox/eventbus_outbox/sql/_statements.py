"""Statements as values, and how they are written for each database and driver."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from eventbus import ConfigurationError
from eventbus._settlement import error_text

T = TypeVar("T")

Dialect = Literal["postgresql", "sqlite"]
Rows: TypeAlias = "list[tuple[Any, ...]]"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}(\.[A-Za-z_][A-Za-z0-9_]{0,47})?\Z")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")


class Statement(NamedTuple):
    """SQL with parameters as ``:name``, and their values. The SQL is ours alone: values never become part of it."""

    sql: str
    params: Mapping[str, Any] = {}


Steps: TypeAlias = Generator[Statement, Rows, T]
"""What is to be done in one transaction: yields statements, is sent their rows, returns its result."""


def table_name(name: str) -> str:
    """The name, checked: letters, digits and underscores, with a schema before a dot or without.

    :raises ConfigurationError: it is no such name.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"a table is named by letters, digits and underscores, not {name[:60]!r}")
    return name


def now(dialect: Dialect) -> str:
    """Now as SQL, in Unix seconds by the database's clock: the same value throughout one statement."""
    if dialect == "postgresql":
        return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
    return "((julianday('now') - 2440587.5) * 86400.0)"


def ids_in(dialect: Dialect) -> str:
    """A condition as SQL: ``id`` is among those of the parameter ``ids``, which is one text in every driver."""
    if dialect == "postgresql":
        return "id = ANY(CAST(CAST(:ids AS text) AS bigint[]))"
    return "id IN (SELECT value FROM json_each(:ids))"


def ids_text(dialect: Dialect, ids: Iterable[int]) -> str:
    """The value of the parameter ``ids``."""
    joined = ",".join(map(str, ids))
    return f"{{{joined}}}" if dialect == "postgresql" else f"[{joined}]"


@lru_cache(256)
def placed(sql: str, paramstyle: str) -> tuple[str, tuple[str, ...] | None]:
    """The SQL with placeholders of a DB-API module's style (PEP 249), and the order of their names.

    The order is None where the values go by name.
    """
    if paramstyle == "named":
        return sql, None
    if paramstyle == "pyformat":
        return _PARAMETER.sub(r"%(\1)s", sql), None
    order = tuple(_PARAMETER.findall(sql))
    if paramstyle == "qmark":
        return _PARAMETER.sub("?", sql), order
    if paramstyle == "format":
        return _PARAMETER.sub("%s", sql), order
    if paramstyle == "numeric":
        numbers = iter(range(1, len(order) + 1))
        return _PARAMETER.sub(lambda _: f":{next(numbers)}", sql), order
    raise ConfigurationError(f"a DB-API module has no paramstyle {paramstyle!r}")


def quiet_text(error: BaseException) -> str:
    """An error of a database for logs and rows: SQLAlchemy's own text would show statements and their values."""
    original = getattr(error, "orig", None)
    cause = original if isinstance(original, BaseException) else error
    return f"{type(cause).__qualname__}: {error_text(cause)}"
