"""The graph as Dagster loads it: with no environment, always the same, and quickly."""

import subprocess
import sys

import dagster as dg
import yaml
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from pipeboard_assets.commands.environment import DAGSTER_YAML
from pipeboard_assets.definitions import build_defs
from pipeboard_resources.settings import PROJECT_ROOT, Settings

# A rename or a lost dependency shows here as a difference.
GRAPH = {
    "users": set(),
    "pipelines": set(),
    "stages": {"pipelines"},
    "organizations": {"users"},
    "persons": {"users", "organizations"},
    "deals": {"users", "pipelines", "stages", "organizations", "persons"},
    "activity_types": set(),
    "activities": {"users", "deals", "persons", "organizations", "activity_types"},
    "main_bi": {"users", "pipelines", "stages", "organizations", "persons", "deals", "activities"},
}
MONTHLY = {"organizations", "persons", "deals", "activities"}


# A view stands on its table and on those that its names come from.
VIEWS = {
    "users": set(),
    "pipelines": set(),
    "stages": {"pipelines"},
    "organizations": {"users"},
    "persons": {"users", "organizations"},
    "deals": {"users", "pipelines", "stages", "organizations", "persons"},
    "activity_types": set(),
    "activities": {"users", "deals", "persons", "organizations"},
}
# Beyond those: what each mart reads.
MARTS = {
    "pipedrive.deal_stage_history": {"pipedrive.deals", "pipedrive.deal_changelog"},
    "bi.funnel": {"pipedrive.deals", "pipedrive.stages", "pipedrive.pipelines", "pipedrive.deal_stage_history"},
    "bi.velocity": {"bi.main_bi"},
    "bi.closed_deals": {"bi.main_bi", "pipedrive.deals", "bi.calendar"},
    "bi.activity_by_user": {"pipedrive.activities", "pipedrive.activity_types", "pipedrive.users", "bi.calendar"},
    "bi.forecast": {"bi.main_bi"},
    "bi.stalled_deals": {"bi.main_bi", "pipedrive.stages", "bi.calendar"},
    "bi.data_quality": {"bi.main_bi"},
}


def graph() -> AssetGraph:
    return build_defs(Settings(_env_file=None)).resolve_asset_graph()


def parents() -> dict[str, set[str]]:
    """By asset key, joined by a dot."""
    return {
        ".".join(node.key.path): {".".join(parent.path) for parent in node.parent_keys} for node in graph().asset_nodes
    }


def test_the_graph_is_this_one() -> None:
    tables = {
        "bi.main_bi" if name == "main_bi" else f"pipedrive.{name}": {f"pipedrive.{each}" for each in upstream}
        for name, upstream in GRAPH.items()
    }
    views = {f"bi.{name}": {f"pipedrive.{each}" for each in (name, *others)} for name, others in VIEWS.items()}
    asked_for = {"pipedrive.deal_changelog": {"pipedrive.deals"}}
    assert parents() == {**tables, **views, **MARTS, **asked_for, "bi.calendar": set()}


def test_every_asset_says_what_it_is() -> None:
    for node in graph().asset_nodes:
        assert node.description and node.kinds and node.owners and node.group_name.startswith(("crm_", "bi"))


def test_every_column_that_is_declared_says_what_it_means() -> None:
    settings = Settings(_env_file=None, versions=("deals",))
    nodes = build_defs(settings).resolve_asset_graph().asset_nodes
    schemas = {".".join(node.key.path): node.metadata["dagster/column_schema"] for node in nodes}
    assert schemas["bi.deals_versions"].columns[0].name == "valid_from"
    assert [
        f"{name}.{each.name}" for name, schema in schemas.items() for each in schema.columns if not each.description
    ] == []


def test_large_entities_are_partitioned_by_month() -> None:
    assert {node.key.path[-1] for node in graph().asset_nodes if node.is_partitioned} == MONTHLY


def test_definitions_load_without_environment_and_connect_to_nothing() -> None:
    program = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('connected at import')\n"
        "socket.socket.connect = refuse\n"
        "import pipeboard_assets.definitions as d\n"
        "print(len(list(d.defs.resolve_asset_graph().asset_nodes)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], env={}, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(
        len(GRAPH) + len(VIEWS) + len(MARTS) + len(["bi.calendar", "pipedrive.deal_changelog"])
    )


def test_all_that_reads_pipedrive_shares_one_place_and_mart_and_views_wait_for_nobody() -> None:
    job = build_defs(Settings(_env_file=None)).resolve_job_def("sync_all")
    assert {node.name: node.definition.pools for node in job.graph.nodes} == {  # type: ignore[union-attr]
        name: set() if name in ("bi__main_bi", "bi_views") else {"pipedrive"}
        for name in (node.name for node in job.graph.nodes)
    }
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job)
    assert run.run_op_concurrency is not None and run.run_op_concurrency.all_pools == {"pipedrive"}
    assert yaml.safe_load(DAGSTER_YAML)["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}
