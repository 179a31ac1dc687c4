"""Messages to people through apprise: one URL a channel (Slack, Teams, Telegram, e-mail, webhook ...). No decisions.

A channel is known by a fingerprint of its URL, which holds passwords and must appear in no log, cursor or message.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from apprise import Apprise

logger = logging.getLogger(__name__)

# They quote URLs, and so passwords. To see why a channel fails: .venv/bin/apprise -vv -b test '<URL>'
_TALKATIVE = ("apprise", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry")
_is_secret: ContextVar[bool] = ContextVar("is_secret", default=False)


def _is_not_of_a_channel(_record: logging.LogRecord) -> bool:
    return not _is_secret.get()


# Filters, because Dagster configures logging again, which enables every logger that somebody disabled.
for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_is_not_of_a_channel)


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
        for channel, url in self._urls.items():
            if _place(url) is None:
                scheme = re.match(r"[a-z]{1,20}://", url.get_secret_value(), re.IGNORECASE)
                yield f"number {self._number(channel)} ({scheme[0] if scheme else 'without a scheme'})"

    def send(self, channel: str, message: Message) -> bool:
        """Deliver once; False when that failed. Raises KeyError for a channel that the setting no longer has."""
        place = _place(self._urls[channel])
        if place is None:
            logger.warning("PIPEBOARD_ALERT_URLS number %d is no URL that apprise knows", self._number(channel))
            return False
        with _unlogged():
            is_delivered = place.notify(
                title=message.title, body=message.body, notify_type=message.tone.value, body_format="text"
            )
        if not is_delivered:
            logger.warning("an alert was not delivered, PIPEBOARD_ALERT_URLS number %d", self._number(channel))
        return bool(is_delivered)

    def _number(self, channel: str) -> int:
        return self.channels.index(channel) + 1


def _fingerprint(url: SecretStr) -> str:
    return hashlib.blake2s(url.get_secret_value().encode(), digest_size=6).hexdigest()


def _place(url: SecretStr) -> "Apprise | None":
    """Where messages to `url` go; None where apprise does not know such a URL."""
    import apprise  # 0.2 s and a hundred plugins, for which only who sends need wait

    place = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))  # in this thread, where nothing is logged
    with warnings.catch_warnings(), _unlogged():
        # It looks for imghdr, which Python 3.13 no longer has; there it brings its own.
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        return place if place.add(url.get_secret_value()) else None


@contextmanager
def _unlogged() -> Iterator[None]:
    token = _is_secret.set(True)
    try:
        yield
    finally:
        _is_secret.reset(token)
