"""Messages to people through apprise: one URL a channel (Slack, Teams, Telegram, e-mail, webhook ...). No decisions.

A channel is known by a fingerprint of its URL, which holds passwords and must appear in no log, cursor or message.
"""

import hashlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr

logger = logging.getLogger(__name__)

# Its messages quote URLs, and so passwords. To see why a channel fails: .venv/bin/apprise -vv -b test '<URL>'
logging.getLogger("apprise").disabled = True


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

    def send(self, channel: str, message: Message) -> bool:
        """Deliver once; False when that failed. Raises KeyError for a channel that the setting no longer has."""
        import apprise  # 0.2 s and a hundred plugins, for which only who sends need wait

        place = apprise.Apprise()
        with warnings.catch_warnings():
            # It looks for imghdr, which Python 3.13 no longer has; there it brings its own.
            warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
            is_known = place.add(self._urls[channel].get_secret_value())
        if not is_known:
            logger.warning("PIPEBOARD_ALERT_URLS number %d is no URL that apprise knows", self._number(channel))
            return False
        is_delivered = place.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType(message.tone.value),
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not is_delivered:
            logger.warning("an alert was not delivered, PIPEBOARD_ALERT_URLS number %d", self._number(channel))
        return bool(is_delivered)

    def _number(self, channel: str) -> int:
        return self.channels.index(channel) + 1


def _fingerprint(url: SecretStr) -> str:
    return hashlib.blake2s(url.get_secret_value().encode(), digest_size=6).hexdigest()
