"""What the proxy lets through, asked of a real Caddy: a browser hands a login that it knows to every page that asks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from tests.fixtures.caddy import OPERATOR, READER, Proxy, proxy

JSON = {"Content-Type": "application/json"}
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket"}
FOREIGN_PAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


class Upstream(ThreadingHTTPServer):
    """Answers everything with its own name, and keeps the headers of the last request."""

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Any)
        self.name = name
        self.headers: dict[str, str] = {}


class _Any(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.headers = dict(self.headers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.name)))
        self.end_headers()
        self.wfile.write(self.server.name.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep still."""


@contextmanager
def upstream(name: str) -> Iterator[Upstream]:
    with Upstream(name) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, Upstream]]:
    with ExitStack() as stack:
        names = ("webserver", "webserver-readonly", "metabase", "grafana")
        yield {name: stack.enter_context(upstream(name)) for name in names}


@pytest.fixture(scope="module")
def site(upstreams: dict[str, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    ports = {name: server.server_port for name, server in upstreams.items()}
    with proxy(tmp_path_factory.mktemp("proxy"), ports) as running:
        yield running


@pytest.fixture(scope="module")
def browser(site: Proxy) -> Iterator[httpx.Client]:
    """It knows the operator's login and sends it along."""
    with httpx.Client(base_url=site.url, verify=site.trust, auth=OPERATOR, timeout=30) as client:
        yield client


def own_page(site: Proxy, **others: str) -> dict[str, str]:
    return {"Origin": site.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", **others}


@pytest.mark.parametrize("path", ["/graphql", "/readonly/graphql"])
def test_the_ui_asks_by_post_as_json_and_by_websocket(browser: httpx.Client, site: Proxy, path: str) -> None:
    asked = browser.post(f"{path}?op=RootQuery", json={"query": "{ version }"}, headers=own_page(site))
    heard = browser.get(path, headers=own_page(site, **WEBSOCKET))
    assert (asked.status_code, heard.status_code) == (200, 200)


def test_a_program_asks_without_being_a_browser(browser: httpx.Client) -> None:
    assert browser.post("/graphql", json={"query": "{ version }"}).text == "webserver"


@pytest.mark.parametrize("path", ["/graphql", "/readonly/graphql", "/%67raphql", "//graphql", "/GraphQL"])
@pytest.mark.parametrize(
    ("method", "kind"),
    [("GET", ""), ("GET", "application/json"), ("POST", "text/plain"), ("POST", "text/plain; application/json")]
    + [("POST", "application/x-www-form-urlencoded"), ("POST", "multipart/form-data"), ("POST", "")],
)
def test_what_a_form_or_a_link_can_say_is_no_question(
    browser: httpx.Client, site: Proxy, path: str, method: str, kind: str
) -> None:
    url = f"{site.url}{path}?query=mutation+x"
    answer = browser.request(method, url, headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, "by POST" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        FOREIGN_PAGE,
        {"Sec-Fetch-Site": "same-site"},  # Metabase's port
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost"},  # this machine's other ports
    ],
)
def test_a_foreign_page_asks_for_nothing(browser: httpx.Client, headers: dict[str, str]) -> None:
    asked = browser.post("/graphql", json={"query": "mutation"}, headers=headers)
    heard = browser.get("/graphql", headers=headers | WEBSOCKET)
    told = browser.post("/report_asset_materialization/bi/main_bi", headers=headers)
    read = browser.get("/download_debug/x", headers=headers)
    assert {answer.status_code for answer in (asked, heard, told, read)} == {403}


def test_the_link_in_an_alert_opens_its_page(browser: httpx.Client) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert browser.get("/runs/x", headers=link).text == "webserver"
    assert browser.get("/graphql?query=mutation", headers=link).status_code == 403
    assert browser.post("/report_asset_check/x", headers=link).status_code == 403


def test_dagster_wants_a_login_and_is_not_told_which(site: Proxy, upstreams: dict[str, Upstream]) -> None:
    with httpx.Client(base_url=site.url, verify=site.trust, timeout=30) as stranger:
        assert [stranger.get(path).status_code for path in ("/", "/readonly/", "/server_info")] == [401, 401, 401]
        assert stranger.get("/", auth=READER).status_code == 401
        assert stranger.get("/readonly/", auth=READER).text == "webserver-readonly"
        assert stranger.get("/", auth=OPERATOR).text == "webserver"
    assert "Authorization" not in upstreams["webserver"].headers


@pytest.mark.parametrize("path", ["/setup", "/api/setup", "/api/setup/validate", "/api//setup", "/API/%73etup"])
def test_only_an_operator_makes_himself_metabases_administrator(
    site: Proxy, upstreams: dict[str, Upstream], path: str
) -> None:
    with httpx.Client(base_url=site.metabase_url, verify=site.trust, timeout=30) as anybody:
        assert anybody.post(path, json={"token": "x"}).status_code == 401
        assert anybody.post(path, json={"token": "x"}, auth=READER).status_code == 401
        assert anybody.post(path, json={"token": "x"}, auth=OPERATOR).text == "metabase"
        assert "Authorization" not in upstreams["metabase"].headers
        assert anybody.get("/", headers={"X-API-Key": "mb_x"}).text == "metabase"
    assert upstreams["metabase"].headers["X-Api-Key"] == "mb_x"
