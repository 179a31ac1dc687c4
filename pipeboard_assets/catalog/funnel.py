"""Where deals move: pipelines and their stages ("funnel", because pipeline already means something here)."""

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Count, Flag, Id, Instant, Number, Record, Text
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging


class Pipeline(Record):
    descriptions = {
        "is_deal_probability_enabled": "True where chances to win are given for its stages and deals.",
        "is_selected": "True for the pipeline that the key's user has open.",
    }
    name: Text = None
    order_nr: Count = None
    is_deleted: Flag = None
    is_deal_probability_enabled: Flag = None
    is_selected: Flag = None
    add_time: Instant = None
    update_time: Instant = None


class Stage(Record):
    descriptions = {
        "order_nr": "Place of the stage in its pipeline, from the first.",
        "deal_probability": "Chance to win a deal of this stage, in percent.",
        "is_deal_rot_enabled": "True where deals of this stage rot.",
        "days_to_rotten": "Days without update after which a deal of this stage counts as rotten.",
    }
    name: Text = None
    pipeline_id: Id = None
    order_nr: Count = None
    deal_probability: Number = None
    is_deal_rot_enabled: Flag = None
    days_to_rotten: Count = None
    is_deleted: Flag = None
    add_time: Instant = None
    update_time: Instant = None


PIPELINES = Entity(
    name="pipelines",
    record=Pipeline,
    lists=(
        Endpoint("pipelines", "/api/v2/pipelines", Paging.CURSOR, tokens=5, cache_group="lists", is_never_empty=True),
    ),
    group="crm_reference",
    description="Sales pipelines: each a sequence of stages.",
    indexes=("name", "update_time"),
    deleted_when={"is_deleted": True},
    required=("name",),
)

STAGES = Entity(
    name="stages",
    record=Stage,
    lists=(Endpoint("stages", "/api/v2/stages", Paging.CURSOR, tokens=5, cache_group="lists", is_never_empty=True),),
    group="crm_reference",
    description="Stages of the pipelines, with order and probability.",
    indexes=("pipeline_id", "update_time", "order_nr"),
    references={"pipeline_id": "pipelines"},
    deleted_when={"is_deleted": True},
    required=("name", "pipeline_id"),
)
