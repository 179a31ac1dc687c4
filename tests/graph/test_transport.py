"""TLS is spoken where the URLs ask for it, and no process that we start shows a secret on its command line."""

import asyncio
import logging
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import psycopg2
import pytest
from pydantic import SecretStr

from pipeboard_assets import instance_storage
from pipeboard_io import DatabaseUnavailableError, Warehouse
from pipeboard_resources.embedded import postgres_server
from pipeboard_resources.shared_redis import SharedRedis
from tests.fixtures.servers import FAST, temporary_state_dir
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_green


@dataclass(frozen=True)
class Certificate:
    """Of a server at 127.0.0.1, signed by itself."""

    certificate: Path
    key: Path


def certificate(folder: Path, name: str) -> Certificate:
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=30)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def stranger(server: Certificate) -> Certificate:
    """Somebody else's certificate."""
    return certificate(server.key.parent, "stranger")


@pytest.fixture(scope="module")
def tls_postgres(server: Certificate) -> Iterator[str]:
    """The URL of a PostgreSQL that speaks TLS."""
    with temporary_state_dir() as folder, postgres_server(folder, options=FAST) as running:
        with psycopg.connect(running.url, autocommit=True) as admin:
            (data,) = admin.execute("SHOW data_directory").fetchone() or ("",)
            owner = Path(data).stat()
            for source, name, mode in ((server.certificate, "server.crt", 0o644), (server.key, "server.key", 0o600)):
                target = Path(shutil.copy(source, Path(data) / name))
                target.chmod(mode)
                shutil.chown(target, owner.st_uid, owner.st_gid)
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
        yield running.url


def verified(url: str, root: Certificate) -> str:
    return f"{url}?sslmode=verify-full&sslrootcert={root.certificate}"


def test_postgresql_is_believed_only_with_the_right_certificate(
    tls_postgres: str, server: Certificate, stranger: Certificate
) -> None:
    speaks = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    trusted = Warehouse(verified(tls_postgres, server))
    trusted.migrate()
    assert trusted.query(speaks) == [{"ssl": True}]
    with pytest.raises(DatabaseUnavailableError, match="no TLS connection could be agreed: check sslmode"):
        Warehouse(verified(tls_postgres, stranger)).migrate()


def test_dagsters_history_is_kept_over_tls_too(tls_postgres: str, server: Certificate, stranger: Certificate) -> None:
    instance_storage.connect(verified(tls_postgres, server)).close()
    url = instance_storage.storage_url(verified(tls_postgres, server)).replace("+psycopg2", "")
    with psycopg2.connect(url) as connection:
        assert connection.info.ssl_in_use
    connection.close()
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        psycopg2.connect(instance_storage.storage_url(verified(tls_postgres, stranger)).replace("+psycopg2", ""))


@contextmanager
def tls_in_front_of(url: str, server: Certificate) -> Iterator[int]:
    """A port that speaks TLS and hands everything on to the Redis at `url`: the wheel's Redis speaks none itself."""
    address = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer), return_exceptions=True)

    listener = loop.run_until_complete(asyncio.start_server(hand_on, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(listener.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


def test_redis_is_believed_only_with_the_right_certificate(
    redis_url: str, server: Certificate, stranger: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    with tls_in_front_of(redis_url, server) as port:
        url = (
            urlsplit(redis_url)._replace(scheme="rediss").geturl().replace(f":{urlsplit(redis_url).port}/", f":{port}/")
        )

        def ping(root: Certificate) -> bool:
            shared = SharedRedis(SecretStr(f"{url}?ssl_ca_certs={root.certificate}"), timeout_seconds=5)
            answer = shared.attempt(lambda client: bool(client.ping()), False)
            shared.close()
            return answer

        assert ping(server) and not caplog.records
        with caplog.at_level(logging.WARNING):
            assert not ping(stranger)
    assert "Redis is not usable (ConnectionError)" in caplog.text


def test_no_command_line_of_this_machine_shows_a_secret_during_a_sync(fresh_account: Account) -> None:
    settings = fresh_account.settings
    assert settings.pipedrive_api_key and settings.database_url and settings.redis_url
    urls = (settings.database_url.get_secret_value(), settings.redis_url.get_secret_value())
    secrets = {settings.pipedrive_api_key.get_secret_value(), *(urlsplit(url).password for url in urls)} - {None}
    lines: set[str] = set()

    def look(*_page: object) -> None:
        for process in psutil.process_iter(["cmdline"]):
            lines.add(" ".join(process.info["cmdline"] or ()))

    fresh_account.server.before_page = look
    assert_green(fresh_account.sync(assets=("users", "pipelines")))
    fresh_account.server.before_page = None
    assert len(secrets) >= 2 and any("postgres" in line for line in lines)
    assert [line for line in lines if any(str(secret) in line for secret in secrets)] == []
