"""Keys and permissions, the control routes, the request log, and the process on the command line."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pipeboard_resources.pipedrive import standin
from pipeboard_resources.pipedrive.standin import Company, PortInUseError, serve
from tests.standin.conftest import NOW, Reader

COMMAND = [sys.executable, "-m", "pipeboard_resources.pipedrive.standin", "--deals", "20"]


def test_a_wrong_key_is_refused(reader: Reader) -> None:
    answer = reader.get("/api/v2/deals", key="wrong")
    assert (answer.status_code, answer.json()["errorCode"], answer.headers["x-401-by-gw"]) == (401, 401, "true")


def test_the_key_may_come_in_the_query_and_is_not_logged(reader: Reader) -> None:
    answer = reader.get("/api/v2/deals", key="", api_token=reader.server.api_key)
    assert answer.status_code == 200
    assert reader.server.api_key not in repr(reader.server.requests)


def test_a_restricted_user_silently_sees_less(reader: Reader) -> None:
    key = reader.server.restricted_key
    for endpoint in ("deals", "persons", "organizations", "activities"):
        assert 0 < len(reader.ids(endpoint, key=key)) < len(reader.ids(endpoint))
    me = reader.get("/v1/users/me", key=key).json()["data"]
    assert (me["is_admin"], {entry["admin"] for entry in me["access"]}) == (0, {False})


def test_one_key_has_no_permission_for_activities(reader: Reader) -> None:
    key = reader.server.denied_key
    denied = reader.get("/api/v2/activities", key=key)
    assert (denied.status_code, denied.json()["error"]) == (403, "You do not have permissions to do this.")
    assert reader.get("/api/v2/deals", key=key).status_code == 200


def test_permissions_can_be_switched(fresh: Reader) -> None:
    fresh.post("set_permission", endpoint="deals", allowed=False)
    assert fresh.get("/api/v2/deals").status_code == 403
    assert fresh.get("/api/v2/deals/archived").status_code == 200
    fresh.post("set_permission", endpoint="deals", allowed=True)
    assert fresh.get("/api/v2/deals").status_code == 200


def test_only_get_is_answered(reader: Reader) -> None:
    headers = {"x-api-token": reader.server.api_key}
    assert reader.http.post(f"{reader.server.url}/api/v2/deals", headers=headers).status_code == 405


def test_the_log_tells_of_each_request(reader: Reader) -> None:
    reader.get("/api/v2/deals", limit=5, sort_by="add_time")
    (request,) = reader.server.requests
    assert (request.method, request.path, request.status, request.tokens) == ("GET", "/api/v2/deals", 200, 10)
    assert request.query == {"limit": "5", "sort_by": "add_time"}
    reader.server.reset_log()
    assert reader.server.requests == []


def test_records_are_edited_over_http(fresh: Reader) -> None:
    number = fresh.post("create", entity="deals", values={"title": "Via HTTP"})
    fresh.post("update", entity="deals", number=number, values={"value": 12}, at="2026-11-20T13:00:00Z")
    record = fresh.get(f"/api/v2/deals/{number}").json()["data"]
    assert (record["title"], record["value"], record["update_time"]) == ("Via HTTP", 12, "2026-11-20T13:00:00Z")
    fresh.post("archive", number=number)
    assert number in fresh.ids("deals/archived")
    fresh.post("delete", entity="deals", number=number)
    assert number in fresh.ids("deals/archived", status="deleted")


def test_fields_are_edited_over_http(fresh: Reader) -> None:
    code = fresh.post("add_field", entity="deals", name="Nova", field_type="set", options=["a", "b"])["code"]
    fresh.post("rename_field", entity="deals", code=code, name="Novíssima")
    field = fresh.get(f"/api/v2/dealFields/{code}").json()["data"]
    assert (field["field_name"], [option["label"] for option in field["options"]]) == ("Novíssima", ["a", "b"])
    fresh.post("remove_field", entity="deals", code=code)
    assert fresh.get(f"/api/v2/dealFields/{code}").status_code == 404


def test_faults_clock_and_latency_are_set_over_http(fresh: Reader) -> None:
    fresh.post("faults", name="status_503", path="/api/v2/deals", times=None)
    assert fresh.get("/api/v2/deals").status_code == 503
    fresh.post("faults/clear")
    assert fresh.post("advance", seconds=3600) == "2026-11-20T13:00:00+00:00"
    fresh.post("latency", seconds=0.1)
    assert fresh.get("/v1/users/me").elapsed.total_seconds() >= 0.1
    assert len(fresh.post("live", edits=5)) == 5


def test_the_state_is_told(fresh: Reader) -> None:
    state = fresh.http.get(f"{fresh.server.url}/_standin/state").json()["data"]
    assert (state["records"]["deals"], state["plan"]["name"], state["faults"]) == (40, "Ultimate", [])


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("update", {"entity": "deals", "number": 10**9, "values": {}}, 400),
        ("faults", {"name": "gremlins"}, 400),
        ("update", {"nonsense": 1}, 400),
        ("explode", {}, 404),
    ],
)
def test_a_bad_edit_is_told(reader: Reader, action: str, body: dict[str, object], status: int) -> None:
    answer = reader.http.post(f"{reader.server.url}/_standin/{action}", json=body)
    assert (answer.status_code, answer.json()["success"]) == (status, False)


def test_latency_does_not_queue_up(reader: Reader) -> None:
    reader.server.latency_seconds = 0.2
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: reader.get("/v1/users/me"), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - started < 1


def test_edits_and_requests_at_once_stay_whole(fresh: Reader) -> None:
    company = fresh.server.company

    def edit() -> None:
        for _ in range(100):
            company.delete("persons", company.create("persons"))

    with ThreadPoolExecutor(3) as pool:
        edits = [pool.submit(edit) for _ in range(2)]
        expected = company.ids("persons")[:30]
        for _ in range(20):
            assert fresh.ids("persons", limit=10)[:30] == expected
        for done in edits:
            done.result()


def test_a_server_stops_at_once_even_when_an_answer_stalls() -> None:
    with serve(Company.generate(deals=5, now=NOW)) as server, httpx.Client() as http:
        server.faults.add("timeout", "*")
        with pytest.raises(httpx.ReadTimeout):
            http.get(f"{server.url}/v1/users", headers={"x-api-token": server.api_key}, timeout=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 1


def test_a_taken_port_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"), serve(Company.generate(deals=1), port=port):
            pass
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number: signal.Signals) -> None:
    with subprocess.Popen([*COMMAND, "--port", "0", "--api-key", "k"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None
        assert httpx.get(f"{url[0]}/v1/users/me", headers={"x-api-token": "k"}).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=5) == 0


def test_the_stand_in_imports_nothing_else_of_ours() -> None:
    for module in Path(standin.__file__).parent.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (pipeboard_\S+)", module.read_text(), re.MULTILINE)
        assert all(name.startswith("pipeboard_resources.pipedrive.standin") for name in imported), module
