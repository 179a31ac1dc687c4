"""What an entity is: where its records come from, what they look like, what they refer to. Pure data; no Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeboard_assets.catalog.record import Record
from pipeboard_resources.pipedrive.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One Pipedrive collection that is copied into one table `pipedrive.<name>`.

    `lists` are read together (deals live in two); `fields` lists the custom fields; `references` maps a column to the
    entity whose id it holds, and makes that entity upstream; `also_after` names upstream entities that no id column
    tells; `second_list_when` is the flag that is true in records of the second list; `has_summary`: Pipedrive counts them itself; `deleted_when`: a record with any of these values is gone at the source. Defaults are what most entities want.
    Raises ValueError when a declaration contradicts itself.
    """

    name: str
    record: type[Record]
    lists: tuple[Endpoint, ...]
    group: str
    description: str
    indexes: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    also_after: tuple[str, ...] = ()
    fields: Endpoint | None = None
    second_list_when: str = ""
    has_summary: bool = False
    deleted_when: Mapping[str, object] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        attributes = self.record.model_fields
        flags = (self.second_list_when,) if len(self.lists) > 1 else ()
        for name in (*flags, *self.indexes, *self.references, *self.required, *self.deleted_when):
            if name not in attributes:
                raise ValueError(f"entity {self.name}: {name!r} is no attribute of {self.record.__name__}")
        if len({endpoint.is_filterable_by_time for endpoint in self.lists}) != 1:
            raise ValueError(f"entity {self.name}: its lists must agree on filtering by update_time")

    @property
    def is_incremental(self) -> bool:
        """Whether its lists can be filtered by `update_time`; then it has a watermark and monthly partitions."""
        return self.lists[0].is_filterable_by_time

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the entities it refers to, itself excepted, in order of first mention."""
        named = (*self.references.values(), *self.also_after)
        return tuple(dict.fromkeys(name for name in named if name != self.name))
