"""Marts that take seconds to compute, stored: a table of our state, behind the view that people read.

It is computed again when a load changed anything that the mart reads, when its SQL, that of a view below it or the time
zone is another, and on a new day if it depends on the day. No Dagster here.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from pipeboard_assets.bi.marts import MARTS, Mart
from pipeboard_io import Load, Warehouse
from pipeboard_io.inference import table_from_select

STORED = {str(mart): mart for mart in MARTS if mart.key}

# The loads that changed one of the tables, before anything is computed: a change meanwhile is seen the next time. Counted,
# because the newest id does not tell of an older one that is committed later. Beside it, what the stored rows were computed
# from, if they are there.
_STATE = """
SELECT (now() AT TIME ZONE %(timezone)s)::date::text AS day,
       (SELECT concat(count(*), ' ', max(id)) FROM pipeboard.load
        WHERE status = 'success' AND table_name = ANY(%(tables)s)
              AND inserted + updated + deleted + restored + relabelled > 0) AS changes,
       (SELECT facts ->> 'basis' FROM pipeboard.load
        WHERE entity = %(entity)s AND status = 'success' AND to_regclass(%(store)s) IS NOT NULL
        ORDER BY id DESC LIMIT 1) AS last
"""
_KEY = "key"


def mart_load(
    warehouse: Warehouse,
    mart: Mart,
    timezone: str,
    *,
    run_id: str | None = None,
    everything: bool = False,
    marts: Sequence[Mart] = MARTS,
) -> Load | None:
    """The load that brings a stored mart up to date; None where it is. The tables that it reads must be there.

    `everything` computes it in any case, for whoever changed a table by hand. `marts`: where the views are that it reads.
    """
    computed = mart.select(timezone)
    dimensions = ", ".join(f"q.{name}" for name in mart.key)
    # Dimensions may be NULL, which no key may be.
    select = f"SELECT md5(ROW({dimensions})::text) AS {_KEY}, q.* FROM (\n{computed}\n) AS q"
    schema, name = mart.store.split(".")
    where = warehouse.placement
    views = [*_below(mart, {str(each): each for each in marts})]
    tables = sorted({where.relation(name) for each in (mart, *views) for name in each.reads})
    asked = {"timezone": timezone, "tables": tables, "entity": name, "store": where.relation(mart.store)}
    (now,) = warehouse.query(_STATE, asked)
    sql = "\x1f".join([select, *(view.select(timezone) for view in views)])
    day = now["day"] if "now()" in sql else ""
    basis = sha256(f"{sql}\x1f{now['changes']}\x1f{day}".encode()).hexdigest()
    if now["last"] == basis and not everything:
        return None
    table = table_from_select(warehouse, select, schema=schema, name=name, primary_key=(_KEY,))
    return Load(table, select=select, mode="select", run_id=run_id, facts=lambda: {"basis": basis})


def _below(mart: Mart, views: Mapping[str, Mart]) -> Iterator[Mart]:
    """The views that it reads, and what they read."""
    for name in mart.reads:
        if name in views:
            yield views[name]
            yield from _below(views[name], views)
