"""The entity catalogue: every entity once, in dependency order. Adding one is one declaration in a family's module."""

from collections.abc import Sequence

from pipeboard_assets.catalog.account import USERS
from pipeboard_assets.catalog.activity import ACTIVITIES, ACTIVITY_TYPES
from pipeboard_assets.catalog.contacts import ORGANIZATIONS, PERSONS
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.funnel import PIPELINES, STAGES
from pipeboard_assets.catalog.sales import DEALS


def _in_order(entities: Sequence[Entity]) -> tuple[Entity, ...]:
    """The same entities, checked: names unique, everything upstream declared before (so the graph has no cycle)."""
    seen: set[str] = set()
    for entity in entities:
        if entity.name in seen or not seen.issuperset(entity.upstream):
            raise ValueError(f"entity {entity.name} is declared twice, or before one of {entity.upstream}")
        seen.add(entity.name)
    return tuple(entities)


CATALOG = _in_order((USERS, PIPELINES, STAGES, ORGANIZATIONS, PERSONS, DEALS, ACTIVITY_TYPES, ACTIVITIES))


def by_name(name: str) -> Entity:
    """The entity so named; raises KeyError."""
    return {entity.name: entity for entity in CATALOG}[name]
