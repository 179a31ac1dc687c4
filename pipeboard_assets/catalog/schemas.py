"""The schemas that we fill, and where they lie when several companies share a database."""

from pipeboard_io import Placement
from pipeboard_resources.settings import Settings

SCHEMAS = ("pipedrive", "bi", "pipeboard")


def placement_of(settings: Settings) -> Placement:
    """PIPEBOARD_ACCOUNT goes before the name of each."""
    return Placement(settings.prefix, SCHEMAS)


def schemas_of(settings: Settings) -> list[str]:
    """Their names in the database, that of the old names among them; not Dagster's own."""
    ours = map(placement_of(settings).schema, SCHEMAS)
    return [*ours, *([settings.old_names_schema] if settings.old_names_schema else [])]
