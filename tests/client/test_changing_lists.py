"""Side by side over the real wire while the company works: whoever lives through the read is met."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from pipeboard_resources.pipedrive.endpoint import Endpoint

DEALS = Endpoint("deals", "/api/v2/deals", is_filterable_by_time=True)
OVERLAP_SECONDS = 600
ROUNDS = 40


class Office:
    """Edits deals before every page. `lived_through` are the ids of the list that nothing took out of it meanwhile."""

    def __init__(self, company, lived_through: set[int], luck: random.Random) -> None:
        self.company, self.lived_through, self.luck = company, lived_through, luck
        self.edits = 0

    def __call__(self, company, endpoint: str, page: int) -> None:
        with company.lock:
            for _ in range(self.luck.choice([0, 0, 1, 3]) if self.edits < 60 else 0):
                company.advance(self.luck.choice([0, 0, 1, 5]))
                self._edit()

    def _edit(self) -> None:
        self.edits += 1
        living = sorted(self.lived_through)
        change = self.luck.choice(["update"] * 6 + ["create", "delete", "remove", "archive"])
        if change == "create" or len(living) < 20:
            self.company.create("deals", {"title": "new"})
        elif change == "update":
            self.company.update("deals", self.luck.choice(living), {"title": f"edit {self.edits}"})
        else:
            number = self.luck.choice(living)
            self.lived_through.discard(number)
            self.company.archive(number) if change == "archive" else getattr(self.company, change)("deals", number)


def met(client, pages):
    """The last version of each record: by the newest update_time, because pages arrive in any order."""
    versions: dict[int, dict] = {}
    for record in (record for page in pages for record in page.records):
        before = versions.get(record["id"])
        if before is None or (record["update_time"] or "") >= (before["update_time"] or ""):
            versions[record["id"]] = record
    return versions


def seconds(record) -> float:
    return datetime.fromisoformat(record["update_time"]).timestamp() if record["update_time"] else 0.0


@pytest.mark.parametrize("nulls_first", [True, False])
def test_whoever_lives_through_a_read_of_a_changing_list_is_met(nulls_first, standin_factory, client_for):
    """Random page sizes, readers, edits, duplicates and refused cursors; what is not met in its last version is the
    next sync's: it lies within the overlap."""
    server = standin_factory(deals=70)
    server.company.nulls_first = nulls_first
    for seed in range(ROUNDS // 2):
        luck = random.Random(f"{seed} {nulls_first}")
        server.reset()
        client = client_for(server, page_size=luck.randint(2, 25), readers=luck.randint(1, 6))
        before = met(client, client.pages(DEALS))
        for number in luck.sample(sorted(before), luck.choice([0, 3, 8])):
            server.company.update("deals", number, {"update_time": None}, touch=False)
        if luck.random() < 0.3:
            server.faults.add("duplicate_records", DEALS.path, times=None)
        elif luck.random() < 0.5:
            server.faults.add("refused_cursor", DEALS.path, nth=luck.randint(1, 5))
        office = server.before_page = Office(server.company, set(before), luck)
        seen = met(client, client.pages_by_time(DEALS))
        server.reset()
        assert office.lived_through <= seen.keys(), seed
        watermark = max(seconds(record) for record in seen.values())
        after = met(client, client.pages(DEALS))
        missed = [record for number, record in after.items() if seen.get(number) != record]
        assert all(seconds(record) >= watermark - OVERLAP_SECONDS for record in missed), seed
        for _ in range(len(before) - len(after)):  # the next round begins with as many
            server.company.create("deals")
