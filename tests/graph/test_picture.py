"""The picture of `bi.main_bi`: drawn where something changed, small, and whole whatever people call their stages."""

import re
from base64 import b64decode
from xml.etree import ElementTree

import dagster as dg

from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.request import SyncRequest
from tests.graph.conftest import Account

NAMES = ("<b>&\"'", "line\nbreak \x07\x1b", "🚀 " * 30, "")


def picture(account: Account, instance: dg.DagsterInstance) -> str | None:
    run_sync(build_defs(account.settings), instance, SyncRequest())
    event = instance.get_latest_materialization_event(asset_key("main_bi", ""))
    assert event is not None and event.asset_materialization is not None
    shown = event.asset_materialization.metadata.get("picture")
    return None if shown is None else str(shown.value)


def test_a_changed_mart_shows_itself_and_an_unchanged_one_draws_nothing(fresh_account: Account) -> None:
    company = fresh_account.company
    for number, name in zip(company.ids("stages"), NAMES * 20, strict=False):
        company.update("stages", number, {"name": name})
        pipeline = company.get("stages", number)["pipeline_id"]
        company.create("deals", {"title": "open", "stage_id": number, "pipeline_id": pipeline, "status": "open"})
    with dg.DagsterInstance.ephemeral() as instance:
        shown = picture(fresh_account, instance)
        assert shown is not None and len(shown) < 20_000, "it is kept in the event log"
        assert re.findall(r"!\[(.+?)\]", shown) == ["Open deals by stage", "Won value by month"]
        stages, months = (ElementTree.fromstring(b64decode(code)) for code in re.findall(r"base64,([^)]+)", shown))
        texts = {text for each in stages.iter() for text in [each.text] if text}
        assert any("🚀" in text and len(text) < 25 for text in texts)
        labels = [each.text for each in months.iter() if re.fullmatch(r"\d\d", each.text or "")]
        assert len(labels) == 12, "months without a won deal, too"
        assert picture(fresh_account, instance) is None
