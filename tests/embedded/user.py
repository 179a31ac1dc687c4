"""A program that uses the embedded server of a folder until its stdin ends; tests run several, and kill some.

`python -m tests.embedded.user postgres|redis FOLDER [ACCOUNT]` prints one JSON line: the server, or {"error": the
message}. As ACCOUNT only once everything is imported: the interpreter may lie where that account cannot go.
"""

import importlib
import json
import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeboard_resources.embedded import EmbeddedServerError, postgres_server, redis_server

IMPORTED_LATER = {"postgres": ["psycopg"], "redis": ["email.parser", "encodings.idna", "redis.backoff", "redis.retry"]}


def become(account: str) -> None:
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def stay(server: dict[str, Any] | None) -> None:
    print(json.dumps(server), flush=True)
    sys.stdin.read()


def main(kind: str, folder: str, account: str | None = None) -> None:
    for module in IMPORTED_LATER[kind]:
        importlib.import_module(module)
    if account:
        become(account)
    try:
        if kind == "postgres":
            with postgres_server(Path(folder), options={"fsync": "off"}) as postgres:
                stay(asdict(postgres))
        else:
            with redis_server(Path(folder)) as redis:
                stay(asdict(redis) if redis else None)
    except EmbeddedServerError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
