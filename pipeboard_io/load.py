"""The contract of a load: what goes in (`Load`) and what comes out (`LoadReport`). Values only, no behaviour."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from pipeboard_io.table import Table

if TYPE_CHECKING:  # these are written by the publish, which knows loads
    from pipeboard_io.traces import Trace
    from pipeboard_io.versions import Versions

ABSENT = "__absent__"
REASON = "__reason__"


@dataclass(frozen=True, slots=True)
class Reject:
    """A value (or, with `column=None`, a whole record) set aside; `raw` is the record as JSON text.

    `key` is the record's key as text, empty where it has none; several key columns are joined by commas. Of a key or a
    reason beyond 1,000 bytes the beginning and a hash are kept.
    """

    key: str
    column: str | None
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are committed together, with their rejects and the place in the source that they end at.

    `checkpoint` is any JSON object; after a crash the load continues from the last one that was committed. `seconds`: what
    the source spent on this batch besides waiting for it, by name; they become phases of the report.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...] = ()
    checkpoint: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The load is complete: living rows that it did not bring are deleted, within limits.

    More than `max_share_percent` of the living rows and more than `spare_rows` raises MassDeleteError, unless `force`.
    """

    max_share_percent: float = 10.0
    spare_rows: int = 5
    force: bool = False
    reason: str = "vanished"


@dataclass(frozen=True, slots=True)
class Touch:
    """Every row that the load writes is noted by the bigint in `column`, for the marts that read the table.

    A row that was there and stays is noted only where one of the columns in `when` differs; no `when`: always.
    """

    column: str
    when: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a SELECT load computes, if not all: those that notes of the `tables` lead to.

    `keys`: a SELECT of the table's one key over `touched (table_name, value)`; None: all rows are computed, and the notes
    are done with. `select`: the load's SELECT, limited to the keys in `pg_temp.scope`. Rows outside stay as they are.

    Notes are taken, so those of a table have one consumer: of two scopes that name it, the second would miss what the
    first took. Nothing can refuse that, for the marts need not be loaded by one program: give the second no scope.
    """

    tables: tuple[str, ...]
    keys: str | None
    select: str


Frames: TypeAlias = Iterable[pl.DataFrame | Batch]


@dataclass(frozen=True, slots=True)
class Load:
    """One table, once: its rows as frames or as a SELECT of this database, and what to do at the end.

    `frames` may be a function of the checkpoint to continue from (None: begin anew). That is the safe form of resuming:
    it is called after the staged rows were claimed, so rows and checkpoint cannot disagree. `watermarks` and `facts` are
    called once when the frames are drained; watermarks move only forward and only together with the rows. `stops` are
    exceptions that mean "stopped on purpose": the ledger says stopped, not failed. `trace` keeps what columns said before, `versions` whole rows,
    `touch` notes what was written, `scope` computes only what such notes lead to. `masks`: columns whose frames bring other texts than
    the source has; the label of a renamed option is put through them before it is stored (None: it is not).
    """

    table: Table
    frames: Frames | Callable[[Mapping[str, Any] | None], Frames] | None = None
    select: str | None = None
    reconcile: Reconcile | None = None
    watermarks: Callable[[], Mapping[str, datetime]] | None = None
    mode: str = "upsert"
    resume_key: str | None = None
    run_id: str | None = None
    facts: Callable[[], Mapping[str, Any]] | None = None
    stops: tuple[type[BaseException], ...] = ()
    touch: Touch | None = None
    trace: "Trace | None" = None
    versions: "Versions | None" = None
    scope: Scope | None = None
    masks: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.frames is None) == (self.select is None):
            raise ValueError(f"a load of {self.table} takes either frames or a select: give exactly one of both")
        if self.select is not None and self.resume_key is not None:
            raise ValueError(f"a select load of {self.table} is one statement and cannot be resumed: drop resume_key")
        if self.touch is not None and not self.table.lifecycle:
            raise ValueError(f"rows that leave {self.table} leave no trace to note: a touch needs lifecycle=True")
        if self.scope is not None and (self.select is None or len(self.table.primary_key) != 1):
            raise ValueError(f"a scope limits a SELECT by one key: {self.table} has no select, or another key")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What one load did. The row counts are disjoint: staged = inserted + updated + unchanged + restored + those deleted
    by the source + `outdated` (older than what is stored); `deleted` also counts rows that a reconciliation deleted."""

    table: str
    load_id: str
    mode: str
    rows: int
    """Rows in the table afterwards, alive."""
    staged: int
    inserted: int
    updated: int
    unchanged: int
    outdated: int
    deleted: int
    restored: int
    relabelled: int
    """Stored rows whose option labels were renewed."""
    rejected: int
    columns_added: tuple[str, ...]
    columns_widened: tuple[str, ...]
    columns_narrower: tuple[str, ...]
    """Columns that the database keeps with another type, so that values may be rejected: "name: has X, wanted Y"."""
    ddl: tuple[str, ...]
    seconds: Mapping[str, float]
    """By phase: fetch (waiting for frames, less what batches say they were made in), stage (encoding and COPY), ddl, lock, publish, total."""
    bytes: int
    """Bytes sent by COPY."""
    watermarks: Mapping[str, datetime] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False

    @property
    def is_unchanged(self) -> bool:
        """Whether the load wrote no row."""
        return not (self.inserted or self.updated or self.deleted or self.restored or self.relabelled)


# An escaped NUL, but not the six characters themselves behind an escaped backslash.
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def json_text(value: object) -> str:
    """JSON for state columns: NUL characters dropped (PostgreSQL has none), anything unknown as text."""
    return _ESCAPED_NUL.sub(r"\1", json.dumps(value, default=str, ensure_ascii=False))
