"""What a person sees and does in Dagster's UI, in a real browser. In order: the last tests spoil what the first ones see."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect

from pipeboard_assets.graph.request import ASSETS
from tests.fixtures.caddy import OPERATOR, Proxy
from tests.ui.conftest import LATE_AFTER_SECONDS, Installation

pytestmark = pytest.mark.timeout(300)

Photograph = Callable[[Page, str], None]

GROUPS = ("crm_reference", "crm_contacts", "crm_sales", "bi")
SECONDS = 1000


def test_the_graph_shows_nine_assets_in_their_groups(page: Page, photograph: Photograph) -> None:
    nine = quote('kind:"pipedrive" or key:"bi/main_bi"', safe="")
    opened = ",".join(f"global@global:{group}" for group in GROUPS)
    page.goto(f"/asset-groups~{nine}/?expanded={quote(opened)}")
    nodes = page.locator("foreignObject")
    for name in ASSETS:
        expect(nodes.get_by_text(name, exact=True)).to_be_visible(timeout=60 * SECONDS)
    for group in GROUPS:
        expect(nodes.get_by_text(group, exact=True)).to_be_visible()
    page.get_by_role("img", name="zoom_out").click(click_count=2)  # else its edges lie outside the window
    page.wait_for_timeout(1000)  # it glides there
    photograph(page, "graph")


def test_an_asset_tells_its_story(page: Page, photograph: Photograph) -> None:
    page.goto("/assets/bi/main_bi")
    for told in ("Row count", "One row per living deal", "value_in_default_currency", "main_bi.sql", "Passing"):
        expect(page.get_by_text(told).first).to_be_visible()
    page.goto("/assets/bi/main_bi?view=events")
    page.get_by_role("row").filter(has_text="picture").get_by_text("Show Markdown").click()
    pictures = page.get_by_role("dialog").locator("img[src^=data]")
    expect(pictures).to_have_count(2)
    assert pictures.evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 100)"), (
        "drawn, not broken"
    )
    photograph(page, "picture")


def test_a_click_materializes_an_asset(page: Page) -> None:
    page.goto("/assets/pipedrive/pipelines")
    page.get_by_role("button", name="Materialize").first.click()
    expect(page.get_by_text("Launched run")).to_be_visible()
    page.get_by_role("link", name="View", exact=True).click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=90 * SECONDS)


@pytest.fixture
def operators_page(browser: Browser, site: Proxy) -> Iterator[Page]:
    """Of a browser that hands the operator's login to the site, whoever asks."""
    name, password = OPERATOR
    login = b64encode(f"{name}:{password}".encode()).decode()
    context = browser.new_context(
        base_url=site.url, ignore_https_errors=True, extra_http_headers={"Authorization": f"Basic {login}"}
    )
    context.set_default_timeout(30 * SECONDS)
    yield context.new_page()
    context.close()


def test_behind_the_proxy_a_click_works_and_the_page_is_told_how_it_goes(operators_page: Page) -> None:
    heard: list[str | bytes] = []
    operators_page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: heard.append(frame)))
    operators_page.goto("/assets/pipedrive/stages")
    operators_page.get_by_role("button", name="Materialize").first.click()
    expect(operators_page.get_by_text("Launched run")).to_be_visible()
    operators_page.get_by_role("link", name="View", exact=True).click()
    operators_page.wait_for_url("**/runs/*")
    expect(operators_page.get_by_text("Success", exact=True).first).to_be_visible(timeout=90 * SECONDS)
    assert "PipelineRunLogsSubscriptionSuccess" in str(heard)


def test_behind_the_proxy_a_foreign_page_asks_in_vain(
    operators_page: Page, installation: Installation, site: Proxy
) -> None:
    statuses: dict[str, int] = {}
    operators_page.on("response", lambda answer: statuses.update({answer.url: answer.status}))
    operators_page.goto(f"{installation.url}/server_info")  # another site, as any that people visit
    operators_page.evaluate(
        """urls => Promise.all(urls.flatMap(url => [
            fetch(url + "/graphql?query=mutation{setNuxSeen}&get", {mode: "no-cors", credentials: "include"}),
            fetch(url + "/graphql?query=mutation{setNuxSeen}&post",
                  {mode: "no-cors", credentials: "include", method: "POST", body: "x"})]))""",
        [site.url, installation.url],
    )
    asked = {url: status for url, status in statuses.items() if "graphql" in url}
    assert {status for url, status in asked.items() if url.startswith(site.url)} == {403}
    assert {status for url, status in asked.items() if url.startswith(installation.url)} == {200}, "Dagster takes it"
    assert len(asked) == 4


def test_three_months_are_read_again_by_a_backfill(page: Page, installation: Installation) -> None:
    year, month = (int(part) for part in installation.history_start.split("-"))
    first, last = (f"{year + (month - 1 + n) // 12}-{(month - 1 + n) % 12 + 1:02}-01" for n in (1, 3))
    page.goto("/assets/pipedrive/activities")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Show all partitions").click()
    field = dialog.get_by_role("textbox").first
    field.fill(f"[{first}...{last}]")
    field.press("Enter")
    expect(dialog.get_by_text("3 partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch").click()
    expect(page.get_by_text("Created backfill")).to_be_visible()
    page.goto("/runs?view=backfills")
    row = page.get_by_role("row").filter(has_text="3 partitions").or_(page.get_by_text("3 partitions"))
    expect(row.first).to_be_visible()
    expect(page.get_by_text("Completed").or_(page.get_by_text("Success", exact=True)).first).to_be_visible(
        timeout=120 * SECONDS
    )


def test_a_failed_check_explains_itself(page: Page, installation: Installation, photograph: Photograph) -> None:
    company = installation.server.company
    for number in company.ids("deals")[:20]:
        company.update("deals", number, {"title": None}, at=datetime.now(UTC))
    page.goto("/assets/pipedrive/deals")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Latest", exact=True).click()
    dialog.get_by_role("button", name="Launch").click()
    page.goto("/assets/pipedrive/deals?view=checks&checkDetail=required_columns")
    page.get_by_text("required_columns").first.click()
    expect(page.get_by_text("20 exceptions: id").first).to_be_visible(timeout=90 * SECONDS)
    expect(page.get_by_text("Fill them in in Pipedrive.").first).to_be_visible()
    photograph(page, "check")


def test_a_stale_table_is_shown_as_failed(page: Page, installation: Installation) -> None:
    """The page asks for the state when it is opened, and not again."""
    installation.server.faults.add("status_401", "*", times=None)  # so that no sync refreshes it

    def is_shown_as_failed() -> bool:
        page.goto("/assets/pipedrive/users")
        failed = page.get_by_text("Freshness policy").locator("..").get_by_text("Failed")
        try:
            failed.wait_for(timeout=10 * SECONDS)
        except TimeoutError:
            return False
        return True

    assert any(is_shown_as_failed() for _ in range((LATE_AFTER_SECONDS + 90) // 10))
