"""Our clients as Dagster resources; the only module of this package that imports Dagster. No logic.

They are functions of the settings, not ConfigurableResources: what is a field of those is written into Dagster's job
snapshots, and an API key or a database password must not be (both come from the environment, or from a server that was
started a second ago).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import SecretStr

from pipeboard_resources.embedded import postgres_server, redis_server
from pipeboard_resources.settings import PIPEDRIVE_KEY_MISSING, MissingSettingError, Settings

if TYPE_CHECKING:  # redis and httpx take 0.2 s, which loading the definitions need not pay
    from pipeboard_resources.pipedrive.client import PipedriveClient
    from pipeboard_resources.pipedrive.usage import RequestFact
    from pipeboard_resources.shared_redis import SharedRedis


@contextmanager
def open_database_url(settings: Settings) -> Iterator[str]:
    """DATABASE_URL, or that of an embedded PostgreSQL which runs as long as somebody uses it."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with postgres_server(settings.state_dir) as server:
        yield server.url


@contextmanager
def open_redis(settings: Settings) -> Iterator[SharedRedis | None]:
    """The Redis at REDIS_URL, else an embedded one, else none."""
    from pipeboard_resources.shared_redis import SharedRedis

    if settings.redis_url is not None:
        yield SharedRedis(settings.redis_url)
        return
    with redis_server(settings.state_dir) as server:
        yield SharedRedis(SecretStr(server.url)) if server is not None else None


@contextmanager
def open_pipedrive(
    settings: Settings, shared: SharedRedis | None, on_request: Callable[[RequestFact], None] | None = None
) -> Iterator[PipedriveClient]:
    """A client with the settings' key, limits and cache. Raises MissingSettingError without a key."""
    if settings.pipedrive_api_key is None:
        raise MissingSettingError(PIPEDRIVE_KEY_MISSING)
    from pipeboard_resources.cache import ResponseCache
    from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
    from pipeboard_resources.pipedrive.retry import RetryPolicy

    options = ClientOptions(
        base_url=settings.pipedrive_base_url,
        page_size=settings.page_size,
        readers=settings.readers,
        timeout_seconds=settings.request_timeout_seconds,
        token_reserve_percent=settings.token_reserve_percent,
        retry=RetryPolicy(attempts=settings.retry_attempts, total_seconds=settings.retry_total_seconds),
    )
    lifetimes = {"fields": settings.cache_fields_seconds, "lists": settings.cache_lists_seconds}
    cache = ResponseCache(shared, lifetimes) if shared is not None else None
    with PipedriveClient(
        settings.pipedrive_api_key, options, shared=shared, cache=cache, on_request=on_request
    ) as client:
        yield client


def build_redis_resource(settings: Settings) -> dg.ResourceDefinition:
    """SharedRedis, or None where there is no Redis."""

    @dg.resource(description="Redis: shared limits and the cache of slow-moving lists. Optional; trouble is a miss.")
    def redis(_context: dg.InitResourceContext) -> Iterator[SharedRedis | None]:
        with open_redis(settings) as shared:
            yield shared

    return redis


def build_pipedrive_resource(
    settings: Settings, on_request: Callable[[RequestFact], None] | None = None
) -> dg.ResourceDefinition:
    """PipedriveClient; it needs the resource `redis`."""

    @dg.resource(required_resource_keys={"redis"}, description=f"The Pipedrive API at {settings.pipedrive_base_url}.")
    def pipedrive(context: dg.InitResourceContext) -> Iterator[PipedriveClient]:
        with open_pipedrive(settings, context.resources.redis, on_request) as client:
            yield client

    return pipedrive
