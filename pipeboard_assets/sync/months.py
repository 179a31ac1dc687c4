"""Months, YYYY-MM in UTC: how people, partitions and a first load name a stretch of `update_time`, and its window."""

from datetime import UTC, datetime

from pipeboard_assets.sync.entity_sync import FULL, REJECTED, Mode, Window


def month_of(instant: datetime) -> str:
    """The month that an instant falls in."""
    return f"{instant.astimezone(UTC):%Y-%m}"


def months_between(first: str, last: str) -> tuple[str, ...]:
    """Every month from `first` to `last`, both included."""
    return tuple(map(_named, range(_number(first), _number(last) + 1)))


def month_start(month: str) -> datetime:
    """Its first moment."""
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)


def month_end(month: str) -> datetime:
    """The first moment of the next one."""
    return month_start(_named(_number(month) + 1))


def window_of(mode: Mode, first: str, last: str, *, history_start: str, now: datetime) -> Window:
    """What a sync reads of the months from `first` to `last`. That of the history is open to the past, that of now to the
    future; only a window that reaches now moves the watermark."""
    if mode in (Mode.FULL, Mode.REJECTED):
        return FULL if mode is Mode.FULL else REJECTED
    lower = None if first <= history_start else month_start(first)
    reaches_now = last >= month_of(now)
    if mode is Mode.INCREMENTAL:
        return Window(mode, lower)
    return Window(mode, lower, None if reaches_now else month_end(last), moves_watermark=reaches_now)


def _number(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:7]) - 1


def _named(number: int) -> str:
    return f"{number // 12:04}-{number % 12 + 1:02}"
