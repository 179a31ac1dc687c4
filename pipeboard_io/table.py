"""What a table looks like: columns, key, indexes, life cycle. Pure declarations; nothing here knows a database's state."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

# PostgreSQL cuts longer identifiers without an error (NAMEDATALEN - 1).
NAME_BYTES = 63
SYNCED_AT = "synced_at"
DELETED_AT = "deleted_at"
LIFECYCLE_COLUMNS = (SYNCED_AT, DELETED_AT)


class ColumnType(StrEnum):
    """The column types a load writes; the value is PostgreSQL's own name of the type."""

    BIGINT = "bigint"
    INTEGER = "integer"
    NUMERIC = "numeric"
    DOUBLE = "double precision"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMPTZ = "timestamptz"
    JSONB = "jsonb"
    BIGINT_ARRAY = "bigint[]"
    TEXT_ARRAY = "text[]"


SQL_TYPES: dict[ColumnType, sa.types.TypeEngine[Any]] = {
    ColumnType.BIGINT: sa.BigInteger(),
    ColumnType.INTEGER: sa.Integer(),
    ColumnType.NUMERIC: sa.Numeric(),
    ColumnType.DOUBLE: sa.Double(),
    ColumnType.TEXT: sa.Text(),
    ColumnType.BOOLEAN: sa.Boolean(),
    ColumnType.DATE: sa.Date(),
    ColumnType.TIME: sa.Time(),
    ColumnType.TIMESTAMPTZ: sa.DateTime(timezone=True),
    ColumnType.JSONB: postgresql.JSONB(),
    ColumnType.BIGINT_ARRAY: postgresql.ARRAY(sa.BigInteger()),
    ColumnType.TEXT_ARRAY: postgresql.ARRAY(sa.Text()),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `comment` is what a BI tool shows beside its name."""

    name: str
    type: ColumnType
    comment: str | None = None
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table that loads write; raises ValueError when the declaration contradicts itself.

    `indexes` names columns that get a one-column btree each. `version_column` decides among several versions of a row
    (the newest wins). `lifecycle` adds `synced_at` and `deleted_at` (NULL = alive); without it rows that leave a complete
    load are deleted. `entity` is the table's name in the state tables (ledger, rejects, tombstones, dictionary) and is
    the table's own name unless given: give it when two schemas hold tables of one name.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ("id",)
    indexes: tuple[str, ...] = ()
    comment: str | None = None
    version_column: str | None = None
    lifecycle: bool = True
    entity: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entity", self.entity or self.name)
        names = [column.name for column in self.columns]
        _require_identifiers((self.schema, self.name, *names))
        _require_unique(names)
        if self.lifecycle and (taken := set(LIFECYCLE_COLUMNS).intersection(names)):
            raise ValueError(f"{self} declares {sorted(taken)}: they come with lifecycle=True, leave them out")
        if not self.primary_key:
            raise ValueError(f"{self} has no primary key: name the columns that identify a row")
        wanted = {*self.primary_key, *self.indexes, *([self.version_column] if self.version_column else [])}
        if missing := wanted.difference(names):
            raise ValueError(f"{self} uses columns that it does not declare: {sorted(missing)}")

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The declared columns and those of the life cycle, in the order in which a new table has them."""
        return (*self.columns, *_lifecycle_columns()) if self.lifecycle else self.columns

    def column(self, name: str) -> Column:
        """The declared column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_sqlalchemy(self) -> sa.Table:
        """The table as SQLAlchemy Core sees it, without indexes and comments (those are DDL statements of their own)."""
        columns = [
            sa.Column(
                column.name,
                SQL_TYPES[column.type],
                primary_key=column.name in self.primary_key,
                nullable=column.nullable and column.name not in self.primary_key,
                autoincrement=False,
            )
            for column in self.all_columns
        ]
        return sa.Table(self.name, sa.MetaData(), *columns, schema=self.schema)


def _lifecycle_columns() -> tuple[Column, ...]:
    return (
        Column(SYNCED_AT, ColumnType.TIMESTAMPTZ, "When this row was last written"),
        Column(DELETED_AT, ColumnType.TIMESTAMPTZ, "When the row was found deleted at the source; NULL = alive"),
    )


def _require_identifiers(names: Iterable[str]) -> None:
    for name in names:
        if not name or "\x00" in name or len(name.encode()) > NAME_BYTES:
            raise ValueError(f"{name!r} cannot name a table or column: 1 to {NAME_BYTES} bytes of UTF-8, no NUL")
        if name.startswith("__"):
            raise ValueError(f"{name!r} cannot be used: names that begin with two underscores are the loader's own")


def _require_unique(names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"columns declared more than once: {repeated}")
