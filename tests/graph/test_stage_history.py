"""`pipedrive.deal_stage_history`: one account of a deal's way, told by its changelog, by the syncs and by its row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pipeboard_assets.bi.deal_history import DEAL_CHANGE
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import by_name
from pipeboard_assets.records.custom_fields import CustomFields
from pipeboard_assets.records.frames import Framer
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_io import Warehouse

Connection = psycopg.Connection[Any]
(HISTORY,) = (mart for mart in MARTS if mart.name == "deal_stage_history")
NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)


def at(hour: float, seconds: int = 0) -> datetime:
    """So many hours after the deal was added, at nine."""
    return NINE + timedelta(hours=hour, seconds=seconds)


@dataclass
class Story:
    """One deal as the database knows it: what its row says, what syncs saw of it, what its changelog tells."""

    connection: Connection
    lines: int = 0

    def row(self, stage: int, moved: datetime | None, *, closed: datetime | None = None) -> None:
        self.connection.execute("DELETE FROM pipedrive.deals")
        self.connection.execute(
            """INSERT INTO pipedrive.deals (id, stage_id, stage_change_time, update_time, add_time, status, close_time, synced_at)
               VALUES (1, %s, %s, %s, %s, %s, %s, now())""",
            [stage, moved, moved or NINE, NINE, "won" if closed else "open", closed],
        )

    def sync(self, noticed: datetime, old: tuple[int, datetime | None], new: tuple[int, datetime]) -> None:
        """A sync saw (stage, stage_change_time) change."""
        for field, before, after in zip(("stage_id", "stage_change_time"), old, new, strict=True):
            if before != after:
                self.connection.execute(
                    "INSERT INTO pipedrive.deal_change VALUES (1, %s, %s, %s, %s, %s)",
                    [field, before and str(before), str(after), new[1], noticed],
                )

    def changelog(self, *moves: tuple[int, int, datetime]) -> None:
        """(from, to, when), the oldest first."""
        for old, new, when in moves:
            self.lines += 1
            self.connection.execute(
                "INSERT INTO pipedrive.deal_changelog VALUES (1, %s, 'stage_id', %s, %s, %s, NULL)",
                [self.lines, str(old), str(new), when],
            )

    def visits(self) -> list[tuple[int, float, float | None]]:
        """Stage, and hours from nine until it was entered and left."""
        query = f"SELECT stage_id, entered_at, left_at, seconds FROM ({HISTORY.select('UTC')}) AS h ORDER BY position"
        rows = self.connection.execute(query.encode()).fetchall()
        assert all(seconds is None or seconds >= 0 for *_, seconds in rows)
        return [(stage, hours(entered), None if left is None else hours(left)) for stage, entered, left, _ in rows]


def hours(moment: datetime) -> float:
    return round((moment - NINE) / timedelta(hours=1), 2)


@pytest.fixture(scope="module")
def tables(database_url: str) -> str:
    warehouse = Warehouse(database_url)
    for table in (Framer(by_name("deals"), CustomFields(), now=NINE).table, DEAL_CHANGE.table, DEAL_CHANGELOG):
        warehouse.fit(table)
    return database_url


@pytest.fixture
def story(tables: str) -> Iterator[Story]:
    with psycopg.connect(tables) as connection:
        yield Story(connection)
        connection.rollback()


def test_a_deal_that_never_moved_is_where_it_was_added(story: Story) -> None:
    story.row(1, None)
    assert story.visits() == [(1, 0, None)]


def test_what_syncs_saw_needs_no_changelog(story: Story) -> None:
    story.sync(at(3), (1, None), (2, at(2)))
    story.sync(at(6), (2, at(2)), (1, at(5)))
    story.row(1, at(5))
    assert story.visits() == [(1, 0, 2), (2, 2, 5), (1, 5, None)]


def test_a_deal_that_was_away_and_back_between_two_syncs_entered_its_stage_twice(story: Story) -> None:
    story.sync(at(6), (1, at(1)), (1, at(5)))
    story.sync(at(9), (1, at(5)), (3, at(8)))
    story.row(3, at(8))
    assert story.visits() == [(1, 1, 5), (1, 5, 8), (3, 8, None)]


def test_a_stage_that_only_the_changelog_saw_stands_between_it_and_the_syncs(story: Story) -> None:
    """The changelog was read after a move that no sync saw, and the next sync saw only the one after it."""
    story.changelog((1, 2, at(2)))
    story.sync(at(6), (1, None), (3, at(5)))
    story.row(3, at(5))
    assert story.visits() == [(1, 0, 2), (2, 2, 5), (3, 5, None)]


def test_a_return_that_only_the_changelog_saw_is_a_visit(story: Story) -> None:
    story.changelog((1, 2, at(2)), (2, 1, at(3)))
    story.sync(at(6), (1, None), (2, at(5)))
    story.row(2, at(5))
    assert story.visits() == [(1, 0, 2), (2, 2, 3), (1, 3, 5), (2, 5, None)]


@pytest.mark.parametrize("skew", [-1, 0, 1])
def test_clocks_that_differ_by_a_second_cost_no_visit_and_make_none(story: Story, skew: int) -> None:
    story.changelog((1, 2, at(2)), (2, 3, at(4)))
    story.sync(at(3), (1, None), (2, at(2, skew)))
    story.sync(at(5), (2, at(2, skew)), (3, at(4, skew)))
    story.row(3, at(4, skew))
    assert [stage for stage, _, _ in story.visits()] == [1, 2, 3]
    story.sync(at(8), (3, at(4, skew)), (1, at(7)))
    story.row(1, at(7))
    assert story.visits() == [(1, 0, 2), (2, 2, 4), (3, 4, 7), (1, 7, None)]


def test_a_move_that_the_row_does_not_tell_yet_waits_for_the_next_sync(story: Story) -> None:
    story.changelog((1, 2, at(2)), (2, 3, at(5)))
    story.row(2, at(2))
    assert story.visits() == [(1, 0, 2), (2, 2, None)]
    story.sync(at(6), (2, at(2)), (3, at(5)))
    story.row(3, at(5))
    assert story.visits() == [(1, 0, 2), (2, 2, 5), (3, 5, None)]


@pytest.mark.parametrize("told_by", ["sync", "changelog"])
def test_a_deal_that_moves_after_it_was_won_stays_nowhere_for_less_than_no_time(story: Story, told_by: str) -> None:
    tellers: dict[str, Callable[[], None]] = {
        "sync": lambda: story.sync(at(9), (1, None), (2, at(8))),
        "changelog": lambda: story.changelog((1, 2, at(8))),
    }
    tellers[told_by]()
    story.row(2, at(8), closed=at(5))
    assert story.visits() == [(1, 0, 5), (2, 8, 8)]
