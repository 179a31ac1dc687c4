"""Per-list high-water marks: read, and moved forward only."""

from collections.abc import Mapping
from datetime import datetime

from pipeboard_io.connection import Connection, scalar
from pipeboard_io.state import State


def read(connection: Connection, state: State, name: str) -> datetime | None:
    """The greatest instant safely loaded under that name; None before the first."""
    value: datetime | None = scalar(connection, state.compose("SELECT value FROM {watermark} WHERE name = %s"), [name])
    return value


def read_all(connection: Connection, state: State) -> dict[str, datetime]:
    """Every watermark by name."""
    rows = connection.execute(state.compose("SELECT name, value FROM {watermark} ORDER BY name")).fetchall()
    return {str(name): value for name, value in rows}


def advance(connection: Connection, state: State, values: Mapping[str, datetime], *, load_id: str) -> None:
    """Moves watermarks forward in the caller's transaction; a value that lies behind changes nothing."""
    for name, value in values.items():
        if value.tzinfo is None:
            raise ValueError(f"the watermark {name!r} needs a time zone: {value.isoformat()} could be any instant")
        connection.execute(
            state.compose(
                """INSERT INTO {watermark} AS w (name, value, load_id) VALUES (%s, %s, %s)
                   ON CONFLICT (name) DO UPDATE
                   SET value = EXCLUDED.value, advanced_at = now(), load_id = EXCLUDED.load_id
                   WHERE w.value < EXCLUDED.value"""
            ),
            [name, value, load_id],
        )
