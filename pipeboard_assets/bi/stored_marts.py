"""Marts that take seconds to compute, stored: a table of our state, behind the view that people read.

It is computed again when a load changed anything that the mart reads, when its SQL or the time zone is another, and on a
new day if it depends on the day. No Dagster here.
"""

from hashlib import sha256

from pipeboard_assets.bi.marts import MARTS, Mart
from pipeboard_io import Load, Warehouse
from pipeboard_io.inference import table_from_select

STORED = {str(mart): mart for mart in MARTS if mart.key}

# The newest load that changed one of the tables, before anything is computed: a change meanwhile is seen the next time.
_CHANGES = """
SELECT concat_ws(' ', max(id), (now() AT TIME ZONE %(timezone)s)::date) AS state FROM pipeboard.load
WHERE status = 'success' AND table_name = ANY(%(tables)s)
      AND inserted + updated + deleted + restored + relabelled > 0
"""
_LAST = """
SELECT facts ->> 'basis' AS basis FROM pipeboard.load
WHERE entity = %s AND status = 'success' ORDER BY id DESC LIMIT 1
"""
_KEY = "key"


def mart_load(
    warehouse: Warehouse, mart: Mart, timezone: str, *, run_id: str | None = None, everything: bool = False
) -> Load | None:
    """The load that brings a stored mart up to date; None where it is. The tables that it reads must be there.

    `everything` computes it in any case, for whoever changed a table by hand.
    """
    computed = mart.select(timezone)
    dimensions = ", ".join(f"q.{name}" for name in mart.key)
    # Dimensions may be NULL, which no key may be.
    select = f"SELECT md5(ROW({dimensions})::text) AS {_KEY}, q.* FROM (\n{computed}\n) AS q"
    schema, name = mart.store.split(".")
    table = table_from_select(warehouse, select, schema=schema, name=name, primary_key=(_KEY,))
    asked = {"timezone": timezone, "tables": sorted(_tables(mart))}
    (now,) = warehouse.query(_CHANGES, asked)
    state = now["state"] if "now()" in computed else now["state"].split()[0]
    basis = sha256(f"{select}\x1f{state}".encode()).hexdigest()
    last = [row["basis"] for row in warehouse.query(_LAST, [table.entity])]
    if warehouse.ddl(table) == [] and last == [basis] and not everything:
        return None
    return Load(table, select=select, mode="select", run_id=run_id, facts=lambda: {"basis": basis})


def _tables(mart: Mart) -> set[str]:
    """The tables below the mart, through the views that it reads."""
    views = {str(each): each for each in MARTS}
    return {table for name in mart.reads for table in (_tables(views[name]) if name in views else {name})}
