"""The key and the passwords stay secret: in logs at DEBUG, errors with their locals, outputs, events, tables and Redis."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, quote_plus, urlsplit

import hpack
import psycopg
import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from pipeboard_resources.cache import ResponseCache
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.endpoint import Endpoint, field_metadata
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.pipedrive.standin import FAULTS
from pipeboard_resources.pipedrive.standin.app import Caller
from pipeboard_resources.settings import Settings
from pipeboard_resources.shared_redis import SharedRedis

KEY = "s3cret/K+y=%7E&5a1b9c" + "d0e1f2" * 4  # it looks different in a URL, in JSON and in HTML
PASSWORD = "hunter2:w@rd/%41"
DEALS = Endpoint("deals", "/api/v2/deals", is_filterable_by_time=True)
LIBRARIES = (
    "httpx",
    "httpcore",
    "hpack",
    "hpack.hpack",
    "hpack.table",
    "h2",
    "redis",
    "stamina",
    "dagster",
    "sqlalchemy",
)


def spellings(secret: str) -> set[bytes]:
    """The secret as it is and as URLs, JSON, repr and base64 (at any offset) would write it."""
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    plain |= {secret.replace("/", "\\/"), secret.replace("&", "&amp;"), repr(secret)[1:-1]}
    found = {text.encode() for text in plain}
    for offset in range(3):
        # Four characters at either end depend on the neighbours, the rest is the secret's own.
        coded = base64.b64encode(b"x" * offset + secret.encode())[4:-4]
        found |= {coded, coded.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def assert_silent(output: bytes, where: str, *secrets: str) -> None:
    for secret in secrets or (KEY,):
        assert not [each for each in spellings(secret) if each in output], f"{where} shows a secret"


@pytest.mark.parametrize(
    "written", [str, quote_plus, repr, json.dumps, lambda key: base64.b64encode(f"u:{key}".encode())]
)
def test_the_search_finds_the_key_however_it_is_written(written):
    found = written(KEY)
    with pytest.raises(AssertionError):
        assert_silent(b"{" + (found if isinstance(found, bytes) else found.encode()) + b"}", "this")


@contextmanager
def everything_logged() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", *LIBRARIES)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def guarded(peaceful):
    """The stand-in, with a key that has awkward characters."""
    callers = peaceful.standin.callers
    callers[KEY] = Caller(KEY, callers[peaceful.api_key].user_id)
    yield peaceful
    del callers[KEY]


def with_locals(error: BaseException) -> str:
    """The error, its causes and contexts, the suppressed ones too, with what every frame held."""
    parts, seen = [], set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        parts += traceback.TracebackException.from_exception(each, capture_locals=True).format(chain=False)
        parts += [repr(each), str(each), repr(each.args), repr(vars(each))]
        waiting += [each.__cause__, each.__context__]
    return "\n".join(parts)


def failure(read) -> str:
    try:
        read()
    except PipedriveError as error:
        return with_locals(error)
    return ""


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"slow"}))
def test_no_error_and_no_log_line_shows_the_key(fault, guarded, client_for, caplog, shared, clock):
    cache = ResponseCache(shared, {"fields": 60}, clock=clock)
    with everything_logged():
        client = client_for(guarded, key=KEY, timeout_seconds=0.1, page_size=40, cache=cache, shared=shared)
        with everything_logged():  # once more, for what the client's making turned down
            guarded.faults.add(fault, "/api/v2/*", times=None)
            told = failure(lambda: list(client.pages(DEALS)))
            told += failure(lambda: list(client.pages_by_time(DEALS)))
            told += failure(lambda: list(client.pages(field_metadata("deal"))))
    assert_silent(told.encode(), "an error")
    assert_silent("\n".join([caplog.text, *map(repr, caplog.records)]).encode(), "the log")
    assert "httpcore" in {record.name.partition(".")[0] for record in caplog.records}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://nowhere.invalid", "ftp://x"])
def test_an_address_that_cannot_be_reached_shows_nothing_either(url, client_for, caplog):
    class Server:
        api_key = KEY

    Server.url = url
    with everything_logged():
        client = client_for(Server, timeout_seconds=1.0)
        told = failure(lambda: list(client.pages(DEALS)))
    assert told
    assert_silent((told + caplog.text).encode(), "an error")


class _Echo(BaseHTTPRequestHandler):
    """Says the key back: in the error of a 401, of a 200 that is none, and in the address of a redirect."""

    def do_GET(self):
        key = self.headers["x-api-token"]
        status = int(self.path.partition("?")[0].rpartition("/")[2])
        body = json.dumps({"success": False, "error": f"token {key} or {quote(key, safe='')} is not valid"}).encode()
        self.send_response(status)
        self.send_header("location", f"https://login.invalid/{quote(key)}/{key}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The console is for the tests."""


@pytest.mark.parametrize("status", [200, 302, 401, 403, 429, 500])
def test_a_key_that_a_server_or_a_proxy_says_back_is_not_told_on(status, client_for, caplog):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        class Server:
            api_key = KEY
            url = f"http://127.0.0.1:{server.server_port}"

        with everything_logged():
            told = failure(lambda: client_for(Server, key=KEY).get(f"/{status}"))
        server.shutdown()
    assert "[API key]" in told
    assert_silent(told.encode(), "an error")
    assert_silent("\n".join([caplog.text, *map(repr, caplog.records)]).encode(), "the log")


@pytest.mark.parametrize("key", ["", "two words", f"{KEY}\n", f"{KEY}ü", f'"{KEY}"'])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key):
    told = failure(partial(PipedriveClient, SecretStr(key)))
    assert "PIPEDRIVE_API_KEY" in told
    assert_silent(told.encode(), "an error", key.strip() or KEY)


def test_http2_headers_are_not_logged_whatever_level_is_set(guarded, client_for, caplog):
    client_for(guarded, key=KEY)
    with everything_logged():
        encoder = hpack.Encoder()
        encoder.encode([("x-api-token", KEY)])
        encoder.header_table_size = 0  # evicts the entry, and says so
        hpack.Decoder().decode(encoder.encode([("x-api-token", KEY)]))
    assert_silent(caplog.text.encode(), "hpack")


def test_nothing_that_is_printed_shows_a_secret(guarded, client_for, redis_url):
    shared = SharedRedis(SecretStr(f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:1/0"))
    settings = Settings(
        _env_file=None,
        pipedrive_api_key=SecretStr(KEY),
        database_url=SecretStr(f"postgresql://u:{PASSWORD}@h/x"),
        redis_url=SecretStr(f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:1/0"),
        alert_urls=(SecretStr(f"slack://{PASSWORD}"),),
    )
    client = client_for(guarded, key=KEY, shared=shared)
    things = [settings, settings.model_dump(), settings.model_dump_json(), client, client.options, client.plan]
    things += [
        client.usage,
        client.account,
        shared,
        vars(client),
        vars(shared),
        vars(client._transport),
        ClientOptions(),
    ]
    for thing in things:
        assert_silent(f"{thing!r} {thing}".encode(), type(thing).__name__, KEY, PASSWORD)


# ------------------------------------------------------------------------------------------------ a failing run, whole


FAULTS_OF_A_RUN = {
    "/v1/activityTypes": "status_401",
    "/api/v2/pipelines": "status_500",
    "/api/v2/organizations": "connection_cut",
}
AT_DEBUG = f"""
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in {LIBRARIES!r}:
    logging.getLogger(name).setLevel(logging.DEBUG)
from pipeboard_assets.__main__ import main
main()
"""


@pytest.fixture
def failing_run(guarded, fresh_database, redis_url, tmp_path):
    """`pipeboard sync --json` with every logger at DEBUG, while one list after the other fails in its own way."""
    for path, fault in FAULTS_OF_A_RUN.items():
        guarded.faults.add(fault, path, times=None)
    parts = urlsplit(fresh_database)
    name = parts.username or "postgres"
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        text = sql.SQL("CREATE ROLE secretive SUPERUSER LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
        connection.execute(text)
    where = f"{parts.hostname}:{parts.port}"
    environment = {
        "PATH": os.environ["PATH"],
        "PIPEBOARD_STATE_DIR": str(tmp_path),
        "PIPEDRIVE_BASE_URL": guarded.url,
        "PIPEDRIVE_API_KEY": KEY,
        "DATABASE_URL": f"postgresql://secretive:{quote(PASSWORD, safe='')}@{where}{parts.path}",
        "REDIS_URL": redis_url,
        "PIPEBOARD_HISTORY_START": "2026-10",
        "PIPEBOARD_RETRY_ATTEMPTS": "1",
    }
    try:
        yield subprocess.run(
            [sys.executable, "-c", AT_DEBUG, "sync", "--json"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            timeout=100,
            check=False,
        )
    finally:
        with psycopg.connect(fresh_database, autocommit=True) as connection:
            connection.execute(sql.SQL("REASSIGN OWNED BY secretive TO {}").format(sql.Identifier(name)))
            connection.execute("DROP OWNED BY secretive; DROP ROLE secretive")


def test_a_failing_run_at_debug_shows_no_secret_anywhere(failing_run, fresh_database, redis_url, tmp_path):
    secrets = (KEY, PASSWORD, urlsplit(redis_url).password or KEY)
    outcome = json.loads(failing_run.stdout)
    assert failing_run.returncode == 1
    assert sum(asset["status"] == "failed" for asset in outcome["assets"]) == len(FAULTS_OF_A_RUN)
    assert b"DEBUG:httpcore" in failing_run.stderr and b"DEBUG:sqlalchemy" in failing_run.stderr
    places = {"stdout": failing_run.stdout, "stderr": failing_run.stderr}
    places |= {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    places |= dict(tables(fresh_database)) | dict(entries(redis_url))
    assert {"dagster.event_logs", "dagster.snapshots", "dagster.runs", "pipeboard.load"} <= places.keys()
    for where, output in places.items():
        assert_silent(output, where, *secrets)


def tables(url: str) -> Iterator[tuple[str, bytes]]:
    """Every table of every schema as text, what is compressed in it decompressed."""
    with psycopg.connect(url) as connection:
        for schema, table in connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall():
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))).fetchall()
            yield f"{schema}.{table}", b"\n".join(_as_bytes(value) for row in rows for value in row)


def entries(url: str) -> Iterator[tuple[str, bytes]]:
    """Everything in Redis, names and values."""
    with redis.Redis.from_url(url) as server:
        for name in server.scan_iter():
            kind = server.type(name)
            value = server.get(name) if kind == b"string" else server.hgetall(name) if kind == b"hash" else b""
            value = server.zrange(name, 0, -1) if kind == b"zset" else value
            yield f"redis {name.decode()}", name + b" " + _as_bytes(value)


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        return repr(value).encode(errors="replace")
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value
