"""Speed of what dashboards read, on a made-up company. Not a test: run it by hand.

    python -m tests.bench.bi_bench [--deals 200000] [--url postgresql://...]

For every deal there are 0.8 persons, 0.3 organizations, 3 activities and 2 stage moves that a sync saw. Prints a table: what, seconds (the best
of three where it can be repeated), the limit, and whether it is met. Without --url a PostgreSQL is started.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter

import polars as pl
import psycopg

from deploy.metabase.content import QUESTIONS
from pipeboard_assets.bi.calendar import Habits, calendar_load
from pipeboard_assets.bi.deal_history import DEAL_CHANGE
from pipeboard_assets.bi.label_views import label_views, read_dictionary
from pipeboard_assets.bi.main_bi import TOUCHES, main_bi_load
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.bi.stored_marts import mart_load
from pipeboard_assets.catalog import by_name
from pipeboard_assets.records.custom_fields import CustomFields
from pipeboard_assets.records.frames import Framer
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_io import Load, Table, Warehouse
from tests.fixtures.servers import temporary_database, temporary_state_dir

ZONE = "America/Sao_Paulo"
NOW = datetime.now(UTC).replace(microsecond=0)
USERS, STAGES, FRAME_ROWS = 40, 14, 50_000

Columns = dict[str, pl.Expr]
NUMBER = pl.col("id")


def pick(*values: object, salt: int = 1) -> pl.Expr:
    """One of the values, spread over the ids."""
    return pl.lit(pl.Series(values)).gather(scattered(len(values), salt=salt))


def scattered(below: int, *, salt: int = 1) -> pl.Expr:
    """A number from 0, that looks as if drawn at random and is the same for the same id."""
    return (NUMBER.hash(seed=salt) % below).cast(pl.Int64)


def words(prefix: str, number: pl.Expr) -> pl.Expr:
    return pl.lit(prefix + " ") + number.cast(pl.String)


def days_ago(days: pl.Expr) -> pl.Expr:
    return pl.lit(NOW) - pl.duration(days=days, seconds=scattered(86_400, salt=99))


def columns_of(entity: str, deals: int) -> Columns:
    """The columns of an entity, as expressions over `id`."""
    updated = {"update_time": days_ago(scattered(900))}
    if entity == "users":
        return {"name": words("Vendedor", NUMBER), "is_you": NUMBER == 1, "default_currency": pl.lit("BRL")}
    if entity == "pipelines":
        return {"name": words("Funil", NUMBER), **updated}
    if entity == "stages":
        return {"name": words("Etapa", NUMBER), "order_nr": NUMBER % 7, "pipeline_id": NUMBER % 2 + 1, "deal_probability": (NUMBER * 7).cast(pl.String), "is_deal_rot_enabled": NUMBER % 2 == 0, "days_to_rotten": pl.lit(30), **updated}  # fmt: skip
    if entity == "activity_types":
        return {"name": words("Tipo", NUMBER), "key_string": words("type", NUMBER)}
    if entity == "organizations":
        return {"name": words("Empresa", NUMBER), "address_locality": pick("Recife", "Natal", "Belo Horizonte"), "address_country": pl.lit("Brasil"), **updated}  # fmt: skip
    if entity == "persons":
        return {"name": words("Pessoa", NUMBER), "email": words("p", NUMBER), "phone": words("+55", NUMBER), "org_id": scattered(deals * 3 // 10) + 1, **updated}  # fmt: skip
    if entity == "activities":
        due = scattered(1_500, salt=3)
        return {
            "subject": words("Ligar para", NUMBER), "type": words("type", scattered(8, salt=16) + 1), "owner_id": scattered(USERS, salt=17) + 1,
            "deal_id": scattered(deals, salt=5) + 1, "due_date": days_ago(due - 20).dt.date(), "done": due > 30,
            "marked_as_done_time": pl.when(due > 30).then(days_ago(due)), "note": words("Observação " * 8, NUMBER), **updated,
        }  # fmt: skip
    status = pick("open", "won", "lost", "lost", "won", salt=2)
    age = scattered(1_500, salt=4)
    closed = pl.when(status != "open").then(days_ago(age // 2))
    return {
        "title": words("Negócio", NUMBER), "status": status, "currency": pick("BRL", "BRL", "BRL", "USD", salt=14),
        "value": (scattered(100_000) + 1).cast(pl.String), "add_time": days_ago(age), "close_time": closed,
        "won_time": pl.when(status == "won").then(closed), "lost_time": pl.when(status == "lost").then(closed),
        "stage_change_time": days_ago(age * 2 // 3), "owner_id": scattered(USERS, salt=11) + 1, "creator_user_id": scattered(USERS, salt=6) + 1,
        "pipeline_id": scattered(STAGES, salt=12) % 2 + 1, "stage_id": scattered(STAGES, salt=12) + 1, "person_id": scattered(deals * 8 // 10) + 1,
        "org_id": scattered(deals * 3 // 10) + 1, "expected_close_date": days_ago(age // 2 - 60).dt.date(), "is_archived": pl.lit(False),
        "lost_reason": pl.when(status == "lost").then(words("motivo", scattered(25, salt=13))), "origin": pick("ManuallyCreated", "Import", "API", salt=15), **updated,
    }  # fmt: skip


def sizes(deals: int) -> dict[str, int]:
    return {
        "users": USERS, "pipelines": 2, "stages": STAGES, "activity_types": 8,
        "organizations": deals * 3 // 10, "persons": deals * 8 // 10, "deals": deals, "activities": deals * 3,
    }  # fmt: skip


def frames(entity: str, numbers: range, deals: int, **changed: pl.Expr) -> Iterator[pl.DataFrame]:
    for first in range(numbers.start, numbers.stop, FRAME_ROWS * numbers.step):
        ids = range(first, min(first + FRAME_ROWS * numbers.step, numbers.stop), numbers.step)
        made = columns_of(entity, deals) | changed
        yield pl.DataFrame({"id": pl.Series(ids, dtype=pl.Int64)}).with_columns(**made)


def table_of(entity: str) -> Table:
    return Framer(by_name(entity), CustomFields(), now=NOW).table


@dataclass
class Bench:
    """One company in one database."""

    url: str
    deals: int

    def __post_init__(self) -> None:
        self.warehouse = Warehouse(self.url)
        self.missed = 0

    def fill(self) -> None:
        self.warehouse.migrate()
        for entity, count in sizes(self.deals).items():
            made = frames(entity, range(1, count + 1), self.deals)
            self.warehouse.load(Load(table_of(entity), frames=made, touch=TOUCHES.get(entity)))
        self.warehouse.fit(DEAL_CHANGE.table)
        self.warehouse.fit(DEAL_CHANGELOG)
        calendar = calendar_load(self.warehouse, Habits(), NOW.date())
        if calendar is not None:
            self.warehouse.load(calendar)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_MOVES.encode(), {"stages": STAGES})
            connection.execute("VACUUM ANALYZE")

    def define(self) -> None:
        for view in label_views(read_dictionary(self.warehouse)):
            self.warehouse.define(view)
        for mart in MARTS:
            with seconds() as spent:
                load = mart_load(self.warehouse, mart, ZONE) if mart.key else None
                if load is not None:
                    self.warehouse.load(load)
                self.warehouse.define(mart.view(ZONE))
            if load is not None:
                print(f"{f'{mart} stored':<48}{spent():9.3f} s")

    def change(self, numbers: range) -> None:
        """Renames these deals, as a sync would bring it."""
        later = pl.lit(datetime.now(UTC) + timedelta(seconds=1))
        made = frames("deals", numbers, self.deals, title=words("Renomeado", NUMBER), update_time=later)
        self.warehouse.load(Load(table_of("deals"), frames=made, touch=TOUCHES["deals"]))

    def refresh(self) -> float:
        with seconds() as spent:
            self.warehouse.load(main_bi_load(self.warehouse, timezone=ZONE))
        return spent()

    def show(self, what: str, spent: float, limit: float) -> None:
        is_met = spent <= limit
        self.missed += not is_met
        print(f"{what:<48}{spent:9.3f} s{limit:9.3f} s  {'met' if is_met else 'MISSED'}", flush=True)

    def run(self) -> None:
        self.fill()
        print(f"{'what':<48}{'measured':>11}{'limit':>11}")
        self.mart()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        self.define()
        self.questions()

    def mart(self) -> None:
        select = main_bi_load(self.warehouse, timezone=ZONE).select
        with psycopg.connect(self.url, autocommit=True) as connection, seconds() as spent:
            connection.execute(f"CREATE TABLE public.bare AS {select}".encode())
        whole = self.refresh()
        self.show("main_bi from nothing (3 x CREATE TABLE AS)", whole, 3 * spent())
        self.change(range(1, self.deals + 1, 100))
        self.show("refresh after 1 % of the deals changed", self.refresh(), whole / 10)
        self.change(range(7, self.deals + 1, self.deals // 100))
        self.show("refresh after 100 deals changed", self.refresh(), whole / 20)

    def questions(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for question in QUESTIONS:
                best = min(_time(connection, question.sql) for _ in range(3))
                self.show(f"question {question.name}", best, 1.0)


def _time(connection: psycopg.Connection, select: str) -> float:
    with seconds() as spent:
        connection.execute(select.encode()).fetchall()
    return spent()


# Two moves a deal, from stage to stage until it is where it is now, as two syncs saw them.
_MOVES = """
INSERT INTO pipedrive.deal_change (deal_id, field, old_value, new_value, changed_at, noticed_at)
SELECT d.id, f.field, f.before, f.after, m.moved, m.moved + step.number * interval '1 hour'
FROM pipedrive.deals AS d
CROSS JOIN (VALUES (1, 1, 0.6, 0.8), (2, 0, 0.8, 1.0)) AS step (number, ahead, old_share, share)
CROSS JOIN LATERAL (SELECT d.add_time + step.old_share * (d.stage_change_time - d.add_time) AS entered,
                           d.add_time + step.share * (d.stage_change_time - d.add_time) AS moved) AS m
CROSS JOIN LATERAL (VALUES ('stage_id', ((d.stage_id + step.ahead) %% %(stages)s + 1)::text, ((d.stage_id + step.ahead - 1) %% %(stages)s + 1)::text),
                           ('stage_change_time', m.entered::text, m.moved::text)) AS f (field, before, after)
"""


@contextmanager
def seconds() -> Iterator[Callable[[], float]]:
    began = perf_counter()
    ended: list[float] = []
    yield lambda: ended[0]
    ended.append(perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deals", type=int, default=200_000)
    parser.add_argument("--url", help="a PostgreSQL on which databases may be made and dropped")
    arguments = parser.parse_args()
    if arguments.url:
        measure(arguments.url, arguments.deals)
        return
    from pipeboard_resources.embedded import postgres_server

    with temporary_state_dir() as folder, postgres_server(folder) as server:
        print(server.source)
        measure(server.url, arguments.deals)


def measure(server_url: str, deals: int) -> None:
    with temporary_database(server_url, name="bench") as url:
        bench = Bench(url, deals)
        bench.run()
    print(f"{bench.missed} limits missed" if bench.missed else "all limits met")


if __name__ == "__main__":
    main()
