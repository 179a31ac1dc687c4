"""Messages to people through apprise: one URL a channel (Slack, Teams, Telegram, e-mail, webhook ...). No decisions.

A channel is known by a fingerprint of its URL, which holds passwords and must appear in no log, cursor or message.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr

logger = logging.getLogger(__name__)

# Less than the minute that Dagster gives a sensor; what was not sent by then is sent the next time.
_TIMEOUT_SECONDS = 40


class Tone(StrEnum):
    """How a message is to be taken; channels show it as a colour or a sign."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text for people."""

    title: str
    body: str
    tone: Tone


class Notifier:
    """The channels of PIPEBOARD_ALERT_URLS."""

    def __init__(self, urls: Sequence[SecretStr]) -> None:
        self._urls = {_fingerprint(url): url for url in urls}

    @property
    def channels(self) -> tuple[str, ...]:
        """Fingerprints, in the order of the setting."""
        return tuple(self._urls)

    def unknown(self) -> Iterator[str]:
        """What apprise cannot use, by number and scheme: "number 2 (slak://)"."""
        answers = _answers([{"url": url.get_secret_value()} for url in self._urls.values()])
        for (channel, url), answer in zip(self._urls.items(), answers, strict=True):
            if answer != "known":
                scheme = re.match(r"[a-z]{1,20}://", url.get_secret_value(), re.IGNORECASE)
                yield f"number {self._number(channel)} ({scheme[0] if scheme else 'without a scheme'})"

    def send(self, letters: Sequence[tuple[str, Message]]) -> list[bool]:
        """Deliver each (channel, message) once; False for those that were not. Raises KeyError for a channel that the
        setting no longer has."""
        asked = [
            {
                "url": self._urls[channel].get_secret_value(),
                "title": message.title,
                "body": message.body,
                "tone": message.tone.value,
            }
            for channel, message in letters
        ]
        answers = _answers(asked)
        for (channel, _), answer in zip(letters, answers, strict=True):
            if answer != "delivered":
                # Why: .venv/bin/apprise -vv -b test '<URL>'
                why = "is no URL that apprise knows" if answer == "unknown" else "did not take an alert"
                logger.warning("PIPEBOARD_ALERT_URLS number %d %s", self._number(channel), why)
        return [answer == "delivered" for answer in answers]

    def _number(self, channel: str) -> int:
        return self.channels.index(channel) + 1


def _fingerprint(url: SecretStr) -> str:
    return hashlib.blake2s(url.get_secret_value().encode(), digest_size=6).hexdigest()


def _answers(letters: Sequence[Mapping[str, str]]) -> list[str | None]:
    """What `delivery` says of each letter; None where it hung or died before."""
    if not letters:
        return []
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeboard_resources.delivery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where apprise and all below it log
        text=True,
    )
    with process:
        try:
            told, _ = process.communicate(json.dumps(letters), timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
    answers: list[str | None] = [*told.split()]
    return answers + [None] * (len(letters) - len(answers))
