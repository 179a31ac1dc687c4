"""bi.main_bi equals a naive recomputation after every kind of change, though it computes only what changed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
import pytest

from pipeboard_assets.bi.main_bi import MAIN_BI, TOUCHES, main_bi_load
from pipeboard_assets.catalog import by_name
from pipeboard_assets.records.custom_fields import CustomFields
from pipeboard_assets.records.frames import Framer
from pipeboard_io import Load, LoadReport, Reconcile, SourceField, Warehouse

ZONE = "America/Sao_Paulo"
NOW = datetime.now(UTC).replace(microsecond=0)
Rows = dict[int, dict[str, Any]]
LABELS = {1: "Quente", 2: "Frio"}


@dataclass
class World:
    """What the tables should hold, and the loads that bring it there: only what changed, or everything."""

    warehouse: Warehouse
    url: str
    rng: random.Random = field(default_factory=lambda: random.Random(11))
    rows: dict[str, Rows] = field(default_factory=dict)
    rates: dict[tuple[str, date], Decimal] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=lambda: dict(LABELS))

    def load(self, entity: str, *numbers: int, whole: bool = False) -> None:
        rows = [self.rows[entity][number] for number in (sorted(self.rows[entity]) if whole else numbers)]
        table = Framer(by_name(entity), CustomFields(), now=NOW).table
        frame = pl.DataFrame(rows, infer_schema_length=None)
        reconcile = Reconcile(force=True) if whole else None
        self.warehouse.load(Load(table, frames=[frame], touch=TOUCHES[entity], reconcile=reconcile))

    def change(self, entity: str, number: int, **values: Any) -> None:
        self.rows[entity][number] = {**self.rows[entity][number], **values, "update_time": datetime.now(UTC)}
        self.load(entity, number)

    def name_labels(self) -> None:
        known = SourceField("label_ids", "Label", "set", (), tuple(self.labels.items()))
        self.warehouse.assign_columns("deals", [known], reserved=())

    def execute(self, statement: str, *parameters: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, parameters)

    def refresh(self, **options: Any) -> LoadReport:
        return self.warehouse.load(main_bi_load(self.warehouse, timezone=ZONE, **options))

    def deal(self, number: int) -> dict[str, Any]:
        rng = self.rng
        add = NOW - timedelta(hours=rng.randrange(24 * 200))
        status = rng.choice(("open", "open", "won", "lost"))
        close = None if status == "open" else min(NOW, add + timedelta(hours=rng.randrange(24 * 50)))
        return {
            "id": number, "title": f"d{number}", "status": status, "currency": rng.choice(("BRL", "USD", None)),
            "value": rng.choice((None, "0", "1234.56", "99")), "add_time": add, "update_time": NOW, "close_time": close,
            "stage_change_time": rng.choice((None, add)), "owner_id": rng.choice((1, 2, 3, None)), "creator_user_id": rng.choice((1, 2)),
            "pipeline_id": 1, "stage_id": rng.choice((1, 2, 3)), "person_id": rng.choice((None, *range(1, 9))),
            "org_id": rng.choice((None, *range(1, 6))), "probability": rng.choice((None, "10", "75")),
            "expected_close_date": rng.choice((None, (NOW + timedelta(days=rng.randrange(-20, 20))).date())),
            "label_ids": rng.choice((None, [1], [2, 1])), "is_archived": False, "lost_reason": rng.choice((None, "preço")),
        }  # fmt: skip

    def activity(self, number: int) -> dict[str, Any]:
        rng = self.rng
        done = rng.choice((True, False, None))
        return {
            "id": number, "subject": "a", "type": rng.choice(("call", "meeting")), "deal_id": rng.choice((None, *range(1, 41))),
            "due_date": rng.choice((None, (NOW + timedelta(days=rng.randrange(-30, 30))).date())), "due_time": None, "done": done,
            "marked_as_done_time": NOW - timedelta(hours=rng.randrange(500)) if done and rng.random() < 0.7 else None, "update_time": NOW,
        }  # fmt: skip


@pytest.fixture(scope="module")
def world(database_url: str) -> World:
    made = World(Warehouse(database_url), database_url)
    made.warehouse.migrate()
    users = {1: "Ana", 2: "Bruno", 3: "Célia"}
    made.rows = {
        "users": {n: {"id": n, "name": name, "is_you": n == 2, "default_currency": "BRL"} for n, name in users.items()},
        "pipelines": {1: {"id": 1, "name": "Vendas", "update_time": NOW}},
        "stages": {n: {"id": n, "name": f"s{n}", "order_nr": n, "pipeline_id": 1, "deal_probability": ("20", None, "100")[n - 1], "update_time": NOW} for n in (1, 2, 3)},
        "organizations": {n: {"id": n, "name": f"o{n}", "address_locality": "Recife", "address_country": "Brasil", "update_time": NOW} for n in range(1, 6)},
        "persons": {n: {"id": n, "name": f"p{n}", "email": f"p{n}@x", "phone": None, "update_time": NOW} for n in range(1, 9)},
        "deals": {n: made.deal(n) for n in range(1, 41)},
        "activities": {n: made.activity(n) for n in range(1, 121)},
    }  # fmt: skip
    for entity in made.rows:
        made.load(entity, whole=True)
    made.name_labels()
    assert made.refresh().inserted == 40
    return made


def assert_exact(world: World) -> None:
    found = {row["deal_id"]: row for row in world.warehouse.query("SELECT * FROM bi.main_bi")}
    wanted = {number: expected(world, deal) for number, deal in world.rows["deals"].items()}
    assert found.keys() == wanted.keys()
    for number, row in wanted.items():
        assert {n: (found[number][n], row[n]) for n in row if found[number][n] != row[n]} == {}
    assert [*next(iter(wanted.values()))] == [column.name for column in MAIN_BI.columns]


def expected(world: World, deal: dict[str, Any]) -> dict[str, Any]:
    """The row of one deal, computed from the rows in hand in the most simple-minded way."""
    today = datetime.now(ZoneInfo(ZONE)).date()

    def day(instant: datetime | None) -> date | None:
        return instant and instant.astimezone(ZoneInfo(ZONE)).date()

    def of(entity: str, number: int | None) -> dict[str, Any]:
        return world.rows[entity].get(number or 0, {})

    person, organization, stage = of("persons", deal["person_id"]), of("organizations", deal["org_id"]), of("stages", deal["stage_id"])  # fmt: skip
    activities = [each for each in world.rows["activities"].values() if each["deal_id"] == deal["id"]]
    done, planned = [a for a in activities if a["done"]], [a for a in activities if not a["done"]]
    last_done = [on for a in done if (on := day(a["marked_as_done_time"]) or a["due_date"])]
    following = min(planned, key=lambda a: (a["due_date"] or date.max, a["id"]), default={})
    is_open, value = deal["status"] == "open", deal["value"] and Decimal(deal["value"])
    last_day, entered = (
        today if is_open else day(deal["close_time"]),
        day(deal["stage_change_time"] or deal["add_time"]),
    )
    assert last_day and entered
    lasted = None if is_open else int((deal["close_time"] - deal["add_time"]).total_seconds() // 86400)
    rates = [
        (since, rate)
        for (currency, since), rate in world.rates.items()
        if currency == deal["currency"] and since <= last_day
    ]
    rate = 1 if deal["currency"] == "BRL" else max(rates, default=(None, None))[1]
    chance = deal["probability"] or stage["deal_probability"]
    weighted = {"won": value, "lost": Decimal(0)}.get(
        deal["status"], value is not None and chance and value * Decimal(chance) / 100
    )
    copied = ("title", "status", "currency", "add_time", "update_time", "close_time", "expected_close_date", "stage_change_time",
              "creator_user_id", "pipeline_id", "stage_id", "label_ids", "person_id", "org_id", "lost_reason", "is_archived")  # fmt: skip
    row = {
        **{name: deal[name] for name in copied}, "deal_id": deal["id"], "user_id": deal["owner_id"], "value": value,
        "lost_time": None, "won_time": None, "contact_name": person.get("name"), "contact_email": person.get("email"),
        "contact_phone": person.get("phone"), "company_name": organization.get("name"), "activity_count": len(activities),
        "last_activity_due_date": max((a["due_date"] for a in activities if a["due_date"]), default=None),
        "deal_duration_days": lasted, "value_per_day": value / lasted if value is not None and lasted else None,
        "owner_name": of("users", deal["owner_id"]).get("name"), "creator_name": of("users", deal["creator_user_id"]).get("name"),
        "pipeline_name": of("pipelines", 1)["name"], "stage_name": stage["name"], "stage_order": stage["order_nr"],
        "labels": deal["label_ids"] and [world.labels[number] for number in deal["label_ids"]],
        "next_activity_due_date": following.get("due_date"), "next_activity_type": following.get("type"),
        "done_activity_count": len(done), "open_activity_count": len(planned),
        "days_since_last_activity": (today - max(last_done)).days if is_open and last_done else None,
        "days_in_stage": (last_day - entered).days,
        "is_overdue": is_open and bool(deal["expected_close_date"] and deal["expected_close_date"] < today),
        "weighted_value": weighted if weighted is not False else None,
        "value_in_default_currency": value * rate if value is not None and rate is not None else None,
        "org_city": organization.get("address_locality"), "org_country": organization.get("address_country"),
    }  # fmt: skip
    if row["value_per_day"] is not None:  # PostgreSQL divides to 16 digits or more, Decimal to 28
        row["value_per_day"] = pytest.approx(row["value_per_day"], rel=Decimal("1e-15"))
    return {column.name: row[column.name] for column in MAIN_BI.columns}


def test_the_first_one_is_exact_and_a_second_one_writes_nothing(world: World) -> None:
    assert_exact(world)
    assert (world.refresh().staged, world.refresh(everything=True).is_unchanged) == (0, True)


def rename_owner(world: World) -> None:
    world.rows["users"][1]["name"] = "Ana Maria"
    world.load("users", whole=True)


def merge_persons(world: World) -> None:
    """Person 1 goes into person 2: most of its deals move over, and it is gone; a deal that still names it shows its name."""
    theirs = [number for number, deal in world.rows["deals"].items() if deal["person_id"] == 1]
    for number in theirs[1:]:
        world.change("deals", number, person_id=2)
    gone = world.rows["persons"].pop(1)
    world.load("persons", whole=True)
    world.rows["persons"][1] = gone


def delete_activity(world: World) -> None:
    for number in (5, 6, 7):
        del world.rows["activities"][number]
    world.load("activities", whole=True)


def move_activities(world: World) -> None:
    for number in (10, 11, 12):
        world.change("activities", number, deal_id=world.rng.choice((None, 1, 2, 3)), done=True)


def delete_deals(world: World) -> None:
    for number in (8, 9):
        del world.rows["deals"][number]
    world.load("deals", whole=True)


def close_and_reopen(world: World) -> None:
    deals = world.rows["deals"]
    is_open = [number for number, deal in deals.items() if deal["status"] == "open"]
    world.change("deals", is_open[0], status="won", close_time=NOW)
    closed = next(number for number, deal in deals.items() if deal["status"] == "lost")
    world.change("deals", closed, status="open", close_time=None)


CHANGES: dict[str, Callable[[World], None]] = {
    "owner renamed": rename_owner,
    "stage moved": lambda world: world.change("deals", 3, stage_id=2, stage_change_time=NOW),
    "stage renamed": lambda world: world.change("stages", 2, name="Proposta", deal_probability="55", order_nr=9),
    "pipeline renamed": lambda world: world.change("pipelines", 1, name="Comercial"),
    "person renamed": lambda world: world.change("persons", 4, name="Zoë", phone="+55"),
    "persons merged": merge_persons,
    "organization moved": lambda world: world.change("organizations", 2, address_locality="Olinda"),
    "activity deleted": delete_activity,
    "activities moved": move_activities,
    "deals deleted": delete_deals,
    "closed and opened again": close_and_reopen,
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_this_change_it_is_exact_and_computed_in_part(world: World, change: str) -> None:
    CHANGES[change](world)
    report = world.refresh()
    assert_exact(world)
    if change not in ("owner renamed", "pipeline renamed"):
        assert report.staged < len(world.rows["deals"])
    assert world.refresh().staged == 0


def test_label_names_and_exchange_rates_concern_every_row(world: World) -> None:
    world.labels[1] = "Muito quente"
    world.name_labels()
    assert world.refresh().staged == len(world.rows["deals"])
    assert_exact(world)
    for days, rate in ((400, "5.10"), (30, "5.55"), (-30, "9")):
        key = ("USD", (NOW - timedelta(days=days)).date())
        world.rates[key] = Decimal(rate)
        world.execute("INSERT INTO pipeboard.exchange_rate VALUES (%s, %s, %s)", *key, rate)
    world.refresh()
    assert_exact(world)
    assert {deal["currency"] for deal in world.rows["deals"].values()} == {"BRL", "USD", None}


def test_a_new_day_computes_the_open_deals(world: World) -> None:
    world.execute("""UPDATE pipeboard.load SET facts = facts || '{"day": "2020-01-01"}' WHERE entity = 'main_bi'""")
    is_open = [deal for deal in world.rows["deals"].values() if deal["status"] == "open"]
    report = world.refresh()
    assert (report.staged, report.is_unchanged) == (len(is_open), True)


def test_a_table_that_was_changed_by_hand_is_mended_by_everything(world: World) -> None:
    world.execute("UPDATE pipedrive.deals SET title = 'by hand' WHERE id = 20")
    world.rows["deals"][20]["title"] = "by hand"
    assert world.refresh().staged == 0
    world.refresh(everything=True)
    assert_exact(world)


def test_any_history_of_changes_is_exact(world: World) -> None:
    for _ in range(8):
        for entity, make in (("deals", world.deal), ("activities", world.activity)):
            numbers = world.rng.sample(range(1, 130), 6)
            for number in numbers:
                world.rows[entity][number] = {**make(number), "update_time": datetime.now(UTC)}
            world.load(entity, *numbers)
        world.refresh()
        assert_exact(world)
