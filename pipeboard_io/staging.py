"""Streams frames into a staging table: encoded in the caller's thread, sent in another, committed as they come.

While the server parses one piece the caller makes the next. Pieces that pile up meanwhile share one COPY and one commit,
so many small pages cost what a few large ones do, and a slow source still gets every page committed at once.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Condition
from types import TracebackType
from typing import Any, Self

import polars as pl
import psycopg
from psycopg import errors as pg
from psycopg import sql

from pipeboard_io import checkpoints, rejects
from pipeboard_io.checkpoints import Stage
from pipeboard_io.connection import Connection, Timeouts, transaction
from pipeboard_io.copy import ORDER, PIECE_BYTES, Encoder, sliced, stage_columns
from pipeboard_io.errors import translated
from pipeboard_io.fitting import misfits
from pipeboard_io.load import Batch, Reject
from pipeboard_io.state import State
from pipeboard_io.table import DELETED_AT, Table

# The caller makes the next piece only while less than this waits, so that two pieces are at hand: one sent, one waiting.
_WAITING_BYTES = PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a batch: lines for COPY and the frame it came from; the batch's last piece brings rejects and checkpoint."""

    lines: bytes
    frame: pl.DataFrame
    first_order: int
    next_order: int
    bytes_so_far: int
    rejects: Sequence[Reject] = ()
    checkpoint: Mapping[str, Any] | None = None


class Stager:
    """Takes batches for one stage; a context manager that sends what waits before it closes.

    The connection is used by its thread alone until the context ends.
    """

    def __init__(self, connection: Connection, state: State, timeouts: Timeouts, table: Table, stage: Stage) -> None:
        self._connection = connection
        self._state = state
        self._timeouts = timeouts
        self._table = table
        self._stage = stage
        self._encoder = Encoder(table)
        self._last_key: Any = None
        self._waiting: deque[Piece] = deque()
        self._turn = Condition()
        self._is_sending = False
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pipeboard_io")
        self._sent: Future[None] | None = None
        self._next_order = stage.next_order
        self._bytes = stage.bytes
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in stage_columns(table))
        self._copy = state.compose("COPY {stage} ({columns}) FROM STDIN", stage=state.name(stage.name), columns=columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What was handed over is committed even when the source failed: the next run continues behind it.
        try:
            self.flush()
        finally:
            self._sender.shutdown()

    def add(self, item: pl.DataFrame | Batch) -> None:
        """Hands over one frame or batch. Raises FrameError at once, the sender's errors at the latest on leaving."""
        batch = item if isinstance(item, Batch) else Batch(item)
        if batch.frame.width:
            self._encoder.check(batch.frame)
        frame, keyless = self._without_keyless_rows(batch.frame)
        frame, misread = self._without(frame, self._encoder.misread(frame))
        self._note(frame)
        *pieces, last = [*sliced(frame)] or [frame]
        for piece in pieces:
            self._put(piece)
        self._put(last, rejects=(*batch.rejects, *keyless, *misread), checkpoint=batch.checkpoint)

    def _without_keyless_rows(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Reject]]:
        if not frame.height or not any(frame[name].null_count() for name in self._table.primary_key):
            return frame, []
        is_keyless = pl.any_horizontal(pl.col(name).is_null() for name in self._table.primary_key)
        lost = self._encoder.readable(frame.filter(is_keyless))
        # Without even the part of a key that is there: nobody can tell which row it was.
        return frame.filter(~is_keyless), [
            Reject("", None, "the key is null", raw_text(row)) for row in lost.iter_rows(named=True)
        ]

    def _note(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        # A new set each time: the sender may be reading the old one.
        self._stage.absent = self._stage.absent | self._encoder.absent(frame)
        if self._table.lifecycle and DELETED_AT in frame.columns and frame[DELETED_AT].null_count() < frame.height:
            self._stage.has_deleted = True
        if self._stage.is_ascending:
            self._stage.is_ascending = self._is_ascending(frame)

    def _is_ascending(self, frame: pl.DataFrame) -> bool:
        """Whether the keys go on rising; then none can come twice, and publishing need not look for duplicates."""
        keys = frame[self._table.primary_key[0]]
        if len(self._table.primary_key) > 1 or not keys.dtype.is_integer():
            return False
        first, self._last_key, last = keys[0], keys[-1], self._last_key
        return (last is None or first > last) and bool((keys.slice(1) > keys.head(-1)).all())

    def _put(
        self, frame: pl.DataFrame, *, rejects: Sequence[Reject] = (), checkpoint: Mapping[str, Any] | None = None
    ) -> None:
        lines = self._encoder.encode(frame, first_order=self._next_order) if frame.height else b""
        self._bytes += len(lines)
        first, self._next_order = self._next_order, self._next_order + frame.height
        piece = Piece(lines, frame, first, self._next_order, self._bytes, rejects, checkpoint)
        with self._turn:
            self._waiting.append(piece)
            must_start = not self._is_sending
            self._is_sending = True
        if must_start:
            self._raise_failure()
            self._sent = self._sender.submit(self._send_waiting)
        with self._turn:
            # Until the sender takes them, not until it has sent them: the server would wait for the next piece.
            self._turn.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return not self._is_sending or sum(len(piece.lines) for piece in self._waiting) < _WAITING_BYTES

    def _raise_failure(self) -> None:
        """Waits for the sender and raises what it met."""
        if self._sent is not None:
            self._sent.result()

    def flush(self) -> None:
        """Waits until everything handed over is committed; raises the sender's error."""
        self._raise_failure()
        if self._waiting:
            self._sent = self._sender.submit(self._send_waiting)
            self._raise_failure()

    def _take_waiting(self) -> list[Piece]:
        with self._turn:
            pieces, self._waiting = list(self._waiting), deque()
            self._is_sending = bool(pieces)
            self._turn.notify()
        return pieces

    def _send_waiting(self) -> None:
        try:
            with translated(f"Staging rows of {self._table}"):
                while pieces := self._take_waiting():
                    try:
                        self._send(pieces)
                    except (psycopg.DataError, pg.ProgramLimitExceeded, pg.StatementTooComplex):
                        # Some value is not what its column's type wants; the server only says that of the first one.
                        self._send([self._mended(piece) for piece in pieces])
        except BaseException:
            with self._turn:
                self._is_sending = False
                self._turn.notify()
            raise

    def _send(self, pieces: Sequence[Piece]) -> None:
        stage = self._stage
        stage.next_order = pieces[-1].next_order
        stage.bytes = pieces[-1].bytes_so_far
        last_checkpoint = next((p.checkpoint for p in reversed(pieces) if p.checkpoint is not None), None)
        with transaction(self._connection, self._timeouts, durable=stage.is_kept) as connection:
            with connection.cursor().copy(self._copy) as copy:
                for piece in pieces:
                    copy.write(piece.lines)
            if found := [reject for piece in pieces for reject in piece.rejects]:
                rejects.stage(connection, self._state, stage.name, found)
            checkpoints.advance(connection, self._state, stage, last_checkpoint)

    def _mended(self, piece: Piece) -> Piece:
        """The piece without the values that PostgreSQL refuses; each becomes a reject of its own."""
        if not piece.lines:
            return piece
        with transaction(self._connection, self._timeouts, durable=False) as connection:
            found = misfits(connection, self._state, self._table, self._stage.name, piece.lines)
        reasons = {
            column: {order - piece.first_order: reason for order, reason in rows} for column, rows in found.items()
        }
        frame, mended = self._without(piece.frame, reasons)
        lines = self._encoder.encode(frame, first_order=piece.first_order) if frame.height else b""
        return replace(piece, lines=lines, frame=frame, rejects=(*piece.rejects, *mended))

    def _without(
        self, frame: pl.DataFrame, found: Mapping[str, Mapping[int, str]]
    ) -> tuple[pl.DataFrame, list[Reject]]:
        """The frame without values, by column and row with a reason each, and without rows whose key or deletion is one of them."""
        if not found:
            return frame, []
        kept, readable = pl.Series([True]).new_from_index(0, frame.height), self._encoder.readable(frame)
        set_aside: list[Reject] = []
        for column, reasons in found.items():
            # Nor can a record stay of which nobody can tell whether it is alive.
            is_vital = column in self._table.primary_key or (self._table.lifecycle and column == DELETED_AT)
            set_aside += [
                self._reject(readable.row(index, named=True), None if is_vital else column, reason)
                for index, reason in reasons.items()
            ]
            spoilt = pl.int_range(pl.len(), eager=False).is_in(list(reasons))
            if is_vital:
                kept &= ~frame.select(spoilt).to_series()
            else:
                frame = frame.with_columns(pl.when(spoilt).then(None).otherwise(pl.col(column)).alias(column))
        return frame.filter(kept), set_aside

    def _reject(self, row: Mapping[str, Any], column: str | None, reason: str) -> Reject:
        return Reject(rejects.key_of(self._table, row), column, reason, raw_text(row))


def raw_text(row: Mapping[str, Any]) -> str:
    """A row as the JSON text that a reject keeps."""
    return json.dumps({name: value for name, value in row.items() if name != ORDER}, default=str, ensure_ascii=False)
