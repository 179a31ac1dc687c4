"""Personal data that must not reach the database: columns are hashed or emptied on the way from Pipedrive to the staging table.

A hash is keyed (HMAC-SHA-256), so that nobody finds a phone number by trying all of them; the same value gives the same hash
in every column, so that joins and counts still work. No Dagster here.
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from pipeboard_assets.catalog import CATALOG
from pipeboard_io import Batch, ColumnType, Load, Reject, Table
from pipeboard_resources.settings import SettingError

_SETTING = "PIPEBOARD_MASK"


@dataclass(frozen=True, slots=True)
class Masks:
    """What to hide: words such as `persons.email=hash` and `persons.notes=null`, and the key of the hashes."""

    words: Sequence[str] = ()
    key: bytes = b""

    def how(self, entity: str) -> Mapping[str, str]:
        """Column -> `hash` or `null`, of an entity, be it that it has no such column."""
        words = (word.partition("=") for word in self.words)
        places = ((place.partition("."), how) for place, _, how in words)
        return {column: how for (name, _, column), how in places if name == entity}

    def of(self, table: Table) -> Mapping[str, str]:
        """Column -> `hash` or `null`. Raises SettingError for a word that hides nothing, wherever it points."""
        found = {}
        for word in self.words:
            place, _, how = word.partition("=")
            entity, _, column = place.partition(".")
            if entity not in {each.name for each in CATALOG}:
                raise SettingError(f"{_SETTING}: {word!r} names no table; write for example persons.email=hash")
            if entity == table.name:
                _require_maskable(table, column, how, word)
                found[column] = how
        return found


def _require_maskable(table: Table, column: str, how: str, word: str) -> None:
    if column not in {each.name for each in table.columns}:
        raise SettingError(f"{_SETTING}: {word!r} names no column of {table}")
    if not table.column(column).nullable or column in (*table.primary_key, table.version_column):
        raise SettingError(f"{_SETTING}: {word!r} hides a column that the sync itself needs")
    if how == "hash" and table.column(column).type not in (ColumnType.TEXT, ColumnType.JSONB):
        raise SettingError(f"{_SETTING}: {word!r} hashes what is no text; write {word.replace('=hash', '=null')}")


def masked(load: Load, masks: Masks) -> Load:
    """The same load with what is to be hidden hidden; rejected records keep their key and reason, not what they said."""
    hidden = masks.of(load.table)
    if not hidden or load.frames is None:
        return load
    mask, frames = _Mask(load.table, hidden, masks.key), load.frames
    # Rows that a sync staged before the masks were set must not be what this one goes on from.
    resume_key = load.resume_key and f"{load.resume_key} masked {sorted(hidden.items())}"
    load = replace(
        load, resume_key=resume_key, masks={column: partial(mask.text, how) for column, how in hidden.items()}
    )
    if callable(frames):
        read = frames
        return replace(load, frames=lambda checkpoint: mask.over(read(checkpoint)))
    return replace(load, frames=mask.over(frames))


@dataclass(frozen=True, slots=True)
class _Mask:
    table: Table
    hidden: Mapping[str, str]
    key: bytes

    def over(self, items: Iterable[pl.DataFrame | Batch]) -> Iterator[Batch]:
        for item in items:
            batch = item if isinstance(item, Batch) else Batch(item)
            yield replace(batch, frame=self._frame(batch.frame), rejects=tuple(map(self._reject, batch.rejects)))

    def _frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        present = [(column, how) for column, how in self.hidden.items() if column in frame.columns]
        return frame.with_columns([self._series(frame[column], how) for column, how in present])

    def _series(self, values: pl.Series, how: str) -> pl.Series:
        if how == "null":
            return pl.Series(values.name, [None], dtype=values.dtype).new_from_index(0, len(values))
        quote = '"' if self.table.column(values.name).type is ColumnType.JSONB else ""
        hashes = [None if value is None else f"{quote}{self._hash(value)}{quote}" for value in values]
        return pl.Series(values.name, hashes, dtype=pl.String)

    def text(self, how: str, value: str) -> str | None:
        """What a text becomes."""
        return None if how == "null" else self._hash(value)

    def _hash(self, value: str) -> str:
        return hmac.new(self.key, value.encode(), "sha256").hexdigest()

    def _reject(self, reject: Reject) -> Reject:
        """Its reason quotes the value, and its raw form the whole record."""
        is_told = reject.column is not None and reject.column not in self.hidden
        return replace(reject, raw="{}", reason=reject.reason if is_told else "not told, because the table is masked")
