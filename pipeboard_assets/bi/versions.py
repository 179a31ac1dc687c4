"""Slowly changing dimensions: deals, persons and organizations as they were, for the entities that the settings name.

`pipedrive.<entity>_version` keeps the versions that are over, `bi.<entity>_versions` shows all of them under today's labels,
`bi.<entity>_as_of(moment)` gives the rows that were alive then. They reach back to the first sync after they were switched
on. No Dagster here.
"""

from collections.abc import Iterator
from dataclasses import replace

from pipeboard_assets.bi.label_views import Dictionary, label_view
from pipeboard_assets.catalog import by_name
from pipeboard_io import View, ViewColumn
from pipeboard_io.functions import Function
from pipeboard_io.versions import Versions

VALIDITY = (
    ViewColumn("valid_from", "t.valid_from", "When Pipedrive changed it to this version, or it was added."),
    ViewColumn("valid_to", "t.valid_to", "When that ended: with the next version, or deleted; NULL: it is in force."),
)


def versions_of(entity: str) -> Versions:
    """Where an entity's versions go."""
    words = f"Versions of {entity} that are over. The one in force is the row in pipedrive.{entity}."
    return Versions("pipedrive", f"{entity}_version", key="id", changed_at=("update_time", "add_time"), comment=words)


def version_views(entities: tuple[str, ...], dictionary: Dictionary) -> Iterator[View]:
    """`bi.<entity>_versions` of those whose tables are there."""
    for name in entities:
        entity = by_name(name)
        if dictionary.has_tables_for(entity) and f"{name}_version" in dictionary.columns:
            view = label_view(
                entity,
                dictionary.fields.get(name, ()),
                columns=dictionary.columns[name],
                tables=dictionary.columns.keys(),
                taken=[column.name for column in VALIDITY],
            )
            _, joins = view.body.split(" AS t", 1)
            yield replace(
                view,
                name=f"{name}_versions",
                columns=(*VALIDITY, *view.columns),
                body=f"FROM ({_every_version(name)}) AS t{joins.replace('t.deleted_at IS NULL', _IS_REAL)}",
                comment=f"{entity.description} Every version of each that a sync has seen.",
            )


_IS_REAL = "(t.valid_to IS NULL OR t.valid_from < t.valid_to)"


def _every_version(entity: str) -> str:
    return f"""
    SELECT r.*, coalesce(r.update_time, r.add_time) AS valid_from, r.deleted_at AS valid_to FROM pipedrive.{entity} AS r
    UNION ALL
    SELECT r.*, v.valid_from, least(v.valid_to, r.deleted_at)
    FROM pipedrive.{entity}_version AS v CROSS JOIN LATERAL jsonb_populate_record(NULL::pipedrive.{entity}, v.row) AS r"""


def as_of(entity: str) -> Function:
    """`bi.<entity>_as_of(moment)`: living rows as they were at that moment; a date is its beginning."""
    return Function(
        schema="bi",
        name=f"{entity}_as_of",
        arguments="moment timestamp with time zone",
        returns=f"SETOF pipedrive.{entity}",
        body=f"""
    SELECT r.* FROM pipedrive.{entity} AS r
    WHERE coalesce(r.update_time, r.add_time, '-infinity') <= moment AND (r.deleted_at IS NULL OR r.deleted_at > moment)
    UNION ALL
    SELECT r.*
    FROM pipedrive.{entity}_version AS v CROSS JOIN LATERAL jsonb_populate_record(NULL::pipedrive.{entity}, v.row) AS r
    WHERE v.valid_from <= moment AND v.valid_to > moment AND (r.deleted_at IS NULL OR r.deleted_at > moment)
""",
        comment=f"pipedrive.{entity} as it was at that moment, living rows only; reaches back to when versions were switched on.",
    )
