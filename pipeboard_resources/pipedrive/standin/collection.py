"""One entity's records, with the sorted keys and the encoded JSON that make a page of 500 wide records cheap.

Sorted keys and encodings are dropped when a record changes and made again when asked for. No lock: Company has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pipeboard_resources.pipedrive.standin.shapes import Record

SortKey = tuple[int, Any, int]

# Decimals are printed as JSON numbers with every digit, as the server does (api.md 5.3).
ENCODER = msgspec.json.Encoder(decimal_format="number")

# 20,000 deals with 80 custom fields take about 90 MB encoded; beyond this many bytes a record is encoded anew each time.
ENCODED_BYTES_MAX = 128 * 1024 * 1024


class Collection:
    """Records of one entity by id. `show` turns a stored record into what the API sends."""

    def __init__(self, show: Callable[[Record], Record]) -> None:
        self.records: dict[int, Record] = {}
        self.last_id = 0
        self._show = show
        self._orders: dict[tuple[str, bool], list[SortKey]] = {}
        self._encoded: dict[int, bytes] = {}
        self._encoded_bytes = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())

    def put(self, record: Record) -> None:
        """Store a new or changed record."""
        number = record["id"]
        self.records[number] = record
        self.last_id = max(self.last_id, number)
        self._orders.clear()
        self._forget(number)

    def remove(self, number: int) -> None:
        """Take a record out for good."""
        del self.records[number]
        self._orders.clear()
        self._forget(number)

    def forget_encodings(self) -> None:
        """Call when the set of custom fields changed: every record looks different now."""
        self._encoded.clear()
        self._encoded_bytes = 0

    def shown(self, number: int) -> Record:
        """The record as the API sends it, in a new dict."""
        return self._show(self.records[number])

    def encoded(self, number: int) -> bytes:
        """The record's JSON."""
        cached = self._encoded.get(number)
        if cached is not None:
            return cached
        made = ENCODER.encode(self._show(self.records[number]))
        if self._encoded_bytes + len(made) <= ENCODED_BYTES_MAX:
            self._encoded[number] = made
            self._encoded_bytes += len(made)
        return made

    def order(self, sort_by: str, *, nulls_first: bool) -> list[SortKey]:
        """Keys of all records sorted ascending by `sort_by`, ties by id. Do not change the list."""
        wanted = (sort_by, nulls_first)
        if wanted not in self._orders:
            self._orders[wanted] = sorted(
                sort_key(record[sort_by], record["id"], nulls_first=nulls_first) for record in self.records.values()
            )
        return self._orders[wanted]

    def _forget(self, number: int) -> None:
        dropped = self._encoded.pop(number, None)
        if dropped is not None:
            self._encoded_bytes -= len(dropped)


def sort_key(value: Any, number: int, *, nulls_first: bool) -> SortKey:
    """A key that sorts nulls before or after every value, and equal values by id."""
    if value is None:
        return (0 if nulls_first else 2, 0, number)
    return (1, value, number)
