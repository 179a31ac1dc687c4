"""Time as the stand-in sees it: a company clock (aware UTC, whole seconds) and the wire formats of v1 and v2."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_V2_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})")


class Clock:
    """The company's wall clock. Frozen when started with an instant, else the real time; `advance` moves both kinds."""

    def __init__(self, start: datetime | None = None) -> None:
        """`start` must be aware; its fraction of a second is dropped, as the API does."""
        if start is not None and start.tzinfo is None:
            raise ValueError(
                f"Company clock: {start!r} has no time zone. Give an aware datetime, e.g. datetime(..., tzinfo=UTC)."
            )
        self._start = start
        self._offset = timedelta(0)

    def __call__(self) -> datetime:
        """Now, in UTC, whole seconds."""
        instant = self._start if self._start is not None else datetime.now(UTC)
        return (instant + self._offset).astimezone(UTC).replace(microsecond=0)

    def advance(self, seconds: float) -> datetime:
        """Move the clock (backwards too) and return the new now."""
        self._offset += timedelta(seconds=seconds)
        return self()


def v2_time(instant: datetime) -> str:
    """RFC 3339 with `Z` and whole seconds: `2025-01-01T10:20:00Z`. Such strings sort as the instants do."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def v1_time(instant: datetime) -> str:
    """The zoneless UTC form of v1: `2025-01-01 10:20:00`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_v2_time(text: str) -> datetime:
    """Parse a time parameter as strictly as v2 does; ValueError for fractions, blanks and zoneless text (api.md 3.1)."""
    if not _V2_TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 time with whole seconds")
    return datetime.fromisoformat(text).astimezone(UTC)
