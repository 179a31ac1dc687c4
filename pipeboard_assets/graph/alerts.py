"""What people are told, once: troubles that begin, go on too long, or end. Values and rules only; no Dagster, no network.

A trouble has a key that stays the same while it lasts, so that a sync failing every hour is told once, not every hour.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, Field

from pipeboard_resources.notifier import Message, Notifier, Tone

_REMIND_AFTER = timedelta(hours=24)
_GIVE_UP_AFTER = timedelta(hours=24)
_LONGEST_PAUSE = timedelta(hours=1)
_LINES = 20


class Level(StrEnum):
    """ERROR: data is wrong, missing or late. WARN: look at it. OVER: what was told before has ended."""

    ERROR = "ERROR"
    WARN = "WARN"
    OVER = "OVER"


class News(BaseModel, frozen=True):
    """One trouble, or the end of one. `text` says what, why and what to do."""

    key: str
    level: Level
    text: str


class Told(BaseModel, frozen=True):
    """A trouble that people know of."""

    level: Level
    at: datetime


class Letter(BaseModel):
    """A message on its way to one channel."""

    channel: str
    title: str
    body: str
    tone: Tone
    written_at: datetime
    tries: int = 0
    next_try_at: datetime

    def is_old(self, now: datetime) -> bool:
        """Whether it is too late to deliver it."""
        return now - self.written_at > _GIVE_UP_AFTER


class Memory(BaseModel):
    """What the alerts remember from one look to the next; kept as the sensor's cursor."""

    seen_until: datetime
    seen_runs: list[str] = Field(default_factory=list)
    told: dict[str, Told] = Field(default_factory=dict)
    outbox: list[Letter] = Field(default_factory=list)

    def fresh(self, news: Iterable[News], *, now: datetime) -> list[News]:
        """Those that people do not know yet, remembered from now on: begun, worse, older than a day, or over."""
        found = []
        for each in news:
            known = self.told.get(each.key)
            if each.level is Level.OVER:
                if known is None:
                    continue
                del self.told[each.key]
            elif known is not None and known.level is each.level and now - known.at < _REMIND_AFTER:
                continue
            else:
                self.told[each.key] = Told(level=each.level, at=now)
            found.append(each)
        return found

    def post(self, message: Message, channels: Sequence[str], *, now: datetime) -> None:
        """Put a message into the outbox, once for each channel: one that is down keeps nothing from the others."""
        for channel in channels:
            self.outbox.append(
                Letter(
                    channel=channel,
                    title=message.title,
                    body=message.body,
                    tone=message.tone,
                    written_at=now,
                    next_try_at=now,
                )
            )

    def deliver(self, notifier: Notifier, *, now: datetime) -> tuple[int, int, int]:
        """Send what is due; returns the letters that were sent, that wait for another try, that were given up."""
        kept = [each for each in self.outbox if each.channel in notifier.channels and not each.is_old(now)]
        due = [each for each in kept if each.next_try_at <= now]
        sent = notifier.send([(each.channel, Message(each.title, each.body, each.tone)) for each in due])
        for letter in (each for each, is_sent in zip(due, sent, strict=True) if not is_sent):
            letter.tries += 1
            letter.next_try_at = now + min(timedelta(minutes=1 << min(letter.tries - 1, 6)), _LONGEST_PAUSE)
        given_up = len(self.outbox) - len(kept)
        self.outbox = [each for each in kept if each.next_try_at > now]
        return sum(sent), len(self.outbox), given_up


def message_about(subject: str, news: Sequence[News], *, link: str | None) -> Message:
    """One message for all that belongs together, the worst first."""
    order = list(Level)
    ordered = sorted(news, key=lambda each: order.index(each.level))
    worst = ordered[0].level
    lines = [f"{each.level}: {each.text}" for each in ordered[:_LINES]]
    if len(ordered) > _LINES:
        lines.append(f"... and {len(ordered) - _LINES} more.")
    if link is not None:
        lines.append(link)
    tone = {Level.ERROR: Tone.FAILURE, Level.WARN: Tone.WARNING, Level.OVER: Tone.SUCCESS}[worst]
    told = {Level.ERROR: "something is wrong", Level.WARN: "something to look at", Level.OVER: "well again"}[worst]
    return Message(f"Pipeboard: {told} ({subject})", "\n".join(lines), tone)
