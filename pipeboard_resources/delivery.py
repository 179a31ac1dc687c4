"""The process that hands messages to apprise: `python -m pipeboard_resources.delivery`.

apprise, its plugins and the libraries below them log channels' URLs, which hold passwords, with loggers and threads of
their own. In a process whose output nobody reads that is no matter, and one that hangs can be ended. Standard input: a
JSON list of {url, title, body, tone}, without a title to only look at the URL. Standard output: a line for each, one of
`unknown`, `known`, `delivered`, `refused`.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Literal

import apprise

Answer = Literal["unknown", "known", "delivered", "refused"]


def main() -> None:
    """Answer every letter, in order and at once: who reads may stop waiting in between."""
    answers = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):  # what a plugin may print
        for letter in json.load(sys.stdin):
            answers.write(f"{_answer(letter)}\n")
            answers.flush()


def _answer(letter: Mapping[str, str]) -> Answer:
    place = apprise.Apprise()
    if not place.add(letter["url"]):
        return "unknown"
    if "title" not in letter:
        return "known"
    is_delivered = place.notify(
        title=letter["title"], body=letter["body"], notify_type=letter["tone"], body_format="text"
    )
    return "delivered" if is_delivered else "refused"


if __name__ == "__main__":
    main()
