"""Every kind of answer against Pipedrive's own OpenAPI documents, where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse

from tests.standin.conftest import Reader

DOCUMENTS = Path(__file__).parents[3] / "shared" / "reference" / "openapi"
HOST = "https://api.pipedrive.com"

pytestmark = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the official OpenAPI documents are not at hand")

V2_LISTS = ("deals", "deals/archived", "persons", "organizations", "activities", "pipelines", "stages")
V2_FIELDS = ("dealFields", "personFields", "organizationFields", "activityFields", "productFields", "projectFields")
V1_PATHS = (
    "/users",
    "/users/me",
    "/activityTypes",
    "/currencies",
    "/filters",
    "/deals/summary",
    "/deals/{id}/changelog",
    "/deals/{id}/flow",
    "/dealFields",
)

# Sent by the API (examples and recordings, api.md section 4) though the schemas do not list them.
BEYOND_SCHEMA = {
    "deals": {
        "creator_user_id",
        "archive_time",
        "local_won_date",
        "local_lost_date",
        "local_close_date",
    },
}
# In the schemas, but sent on request only.
ON_REQUEST = {"deals": {"source_lead_id"}, "activities": {"attendees"}}


@cache
def document(version: str) -> dict[str, Any]:
    """A specification cut to the paths that the stand-in answers; with all 85 + 143 the validator takes far longer."""
    loaded = yaml.load((DOCUMENTS / f"pipedrive-{version}.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    names = [f"/{name}" for name in (*V2_LISTS, *V2_FIELDS)] + [f"/{name}/{{id}}" for name in V2_LISTS]
    wanted = set(V1_PATHS if version == "v1" else [*names, *(f"/{name}/{{field_code}}" for name in V2_FIELDS)])
    loaded["paths"] = {path: {"get": item["get"]} for path, item in loaded["paths"].items() if path in wanted}
    for item in loaded["paths"].values():
        _relax(item["get"]["responses"])
    return dict(loaded)


def _relax(node: Any) -> None:
    """Where the documents contradict themselves or recordings (api.md section 4): every field but an id may be null; v1's
    times, though called date-time, have no zone, in the documents' own examples too; and of the two lists of field types
    that v1 demands at once, the shorter has only those that users can create.
    """
    if isinstance(node, list):
        for child in node:
            _relax(child)
    elif isinstance(node, dict):
        if node.get("format") == "date-time":
            del node["format"]
        if "varchar_auto" in node.get("enum", ()) and "int" not in node["enum"]:
            del node["enum"]
        for name, schema in (node.get("properties") or {}).items():
            if isinstance(schema, dict) and name not in {"id", "success"} and "type" in schema:
                schema["nullable"] = True
        for child in node.values():
            _relax(child)


@cache
def specification(version: str) -> OpenAPI:
    return OpenAPI.from_dict(document(version))


def assert_valid(reader: Reader, version: str, path: str, **query: Any) -> Any:
    """Ask, let the official schema judge question and answer, and return the data."""
    prefix = "/v1" if version == "v1" else "/api/v2"
    answer = reader.get(prefix + path, **query)
    assert answer.status_code == 200, answer.text
    request = MockRequest(HOST, "get", prefix + path, args={k: str(v) for k, v in query.items()})
    response = MockResponse(answer.content, status_code=200, content_type="application/json")
    specification(version).validate_response(request, response)
    return answer.json()["data"]


def record_schema(version: str, path: str) -> dict[str, Any]:
    """The properties of a list's records."""
    schema = document(version)["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    parts = schema.get("allOf", [schema])
    data = next(part["properties"]["data"] for part in parts if "data" in part["properties"])
    return dict(data["items"]["properties"])


def pages(reader: Reader, path: str) -> Iterator[list[dict[str, Any]]]:
    for number in range(3):
        yield assert_valid(reader, "v2", path, limit=25, sort_by=("id", "update_time", "add_time")[number])


@pytest.mark.parametrize("endpoint", V2_LISTS)
def test_v2_lists_are_as_specified(reader: Reader, endpoint: str) -> None:
    entity = endpoint.partition("/")[0]
    properties = set(record_schema("v2", f"/{endpoint}"))
    for page in pages(reader, f"/{endpoint}"):
        for record in page:
            assert set(record) - properties == BEYOND_SCHEMA.get(entity, set())
            assert properties - set(record) == ON_REQUEST.get(entity, set())


@pytest.mark.parametrize("endpoint", ["deals", "persons", "organizations", "activities", "pipelines", "stages"])
def test_v2_records_by_id_are_as_specified(reader: Reader, endpoint: str) -> None:
    for number in reader.server.company.ids(endpoint)[:5]:
        assert_valid(reader, "v2", f"/{endpoint}/{number}")


@pytest.mark.parametrize("endpoint", V2_FIELDS)
def test_v2_fields_are_as_specified(reader: Reader, endpoint: str) -> None:
    fields = assert_valid(reader, "v2", f"/{endpoint}", limit=500)
    assert_valid(reader, "v2", f"/{endpoint}/{fields[-1]['field_code']}")


@pytest.mark.parametrize("endpoint", ["deals", "deals/archived", "persons", "organizations", "activities"])
def test_v2_fields_on_request_are_as_specified(reader: Reader, endpoint: str) -> None:
    parameters = document("v2")["paths"][f"/{endpoint}"]["get"]["parameters"]
    (names,) = [p["schema"]["enum"] for p in parameters if p["name"] == "include_fields"]
    for record in assert_valid(reader, "v2", f"/{endpoint}", limit=3, include_fields=names[0]):
        assert names[0] in record
    assert reader.get(f"/api/v2/{endpoint}", include_fields=",".join(names)).status_code == 200


@pytest.mark.parametrize("endpoint", [*V2_LISTS, *V2_FIELDS])
def test_v2_accepts_exactly_the_specified_parameters(endpoint: str) -> None:
    from pipeboard_resources.pipedrive.standin.endpoints import LISTS

    specified = {p["name"] for p in document("v2")["paths"][f"/{endpoint}"]["get"].get("parameters", [])}
    accepted = LISTS[endpoint].names if endpoint in LISTS else {"limit", "cursor", "include_fields"}
    assert accepted == specified or (endpoint == "projectFields" and accepted > specified)


@pytest.mark.parametrize("path", V1_PATHS)
def test_v1_answers_are_as_specified(reader: Reader, path: str) -> None:
    number = next(a["deal_id"] for a in reader.server.company.truth("activities") if a["deal_id"] is not None)
    assert_valid(reader, "v1", path.replace("{id}", str(number)))


def test_every_route_costs_what_is_specified() -> None:
    from pipeboard_resources.pipedrive.standin.endpoints import find_route

    for version, prefix in (("v1", "/v1"), ("v2", "/api/v2")):
        for path, item in document(version)["paths"].items():
            route = find_route(prefix + path.replace("{id}", "1").replace("{field_code}", "a" * 40))
            assert route is not None, path
            assert route.tokens == item["get"]["x-token-cost"], path
