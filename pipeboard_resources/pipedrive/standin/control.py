"""The control routes /_standin/...: editing the company, faults, latency and the request log over HTTP.

`GET /_standin/state` and `GET /_standin/requests` tell; `POST /_standin/<action>` does, with a JSON object of arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

from pipeboard_resources.pipedrive.standin.answers import Answer, failure, success
from pipeboard_resources.pipedrive.standin.company import CompanyError
from pipeboard_resources.pipedrive.standin.faults import FAULTS, UnknownFaultError
from pipeboard_resources.pipedrive.standin.life import live
from pipeboard_resources.pipedrive.standin.shapes import ENTITIES

if TYPE_CHECKING:
    from pipeboard_resources.pipedrive.standin.app import StandIn

# Methods of Company that may be called by name; the JSON object holds their arguments.
EDITS = (
    "create",
    "update",
    "delete",
    "restore",
    "remove",
    "archive",
    "unarchive",
    "merge",
    "add_field",
    "remove_field",
    "rename_field",
    "add_option",
    "rename_option",
    "remove_option",
    "set_permission",
    "set_plan",
    "advance",
)


def answer(standin: StandIn, method: str, action: str, body: bytes) -> Answer:
    """Do what was asked; 400 with a sentence when it cannot be done, 404 for an unknown action."""
    try:
        if method == "GET":
            return _told(standin, action)
        arguments = json.loads(body or b"{}")
        if not isinstance(arguments, dict):
            raise CompanyError(f"/_standin/{action} wants a JSON object, got {type(arguments).__name__}.")
        return _done(standin, action, arguments)
    except (CompanyError, UnknownFaultError, TypeError, ValueError) as error:
        return failure(400, str(error))


def _told(standin: StandIn, action: str) -> Answer:
    if action == "state":
        return success(_state(standin))
    if action == "requests":
        return success([asdict(request) for request in standin.requests])
    if action == "faults":
        return success({name: kind.description for name, kind in FAULTS.items()})
    return failure(404, f"No GET /_standin/{action}. Known: state, requests, faults.")


def _done(standin: StandIn, action: str, arguments: dict[str, Any]) -> Answer:
    if action in EDITS:
        done = getattr(standin.company, action)(**_with_instants(arguments))
        return success(_plain(done))
    actions: Mapping[str, Callable[..., object]] = {
        "faults": standin.faults.add,
        "faults/clear": standin.faults.clear,
        "latency": lambda seconds: setattr(standin, "latency_seconds", float(seconds)),
        "log/reset": standin.reset_log,
        "live": lambda edits=20, seed=0: live(standin.company, edits, Random(str(seed))),
    }
    if action not in actions:
        return failure(404, f"No POST /_standin/{action}. Known: {', '.join((*EDITS, *actions))}.")
    return success(_plain(actions[action](**arguments)))


def _state(standin: StandIn) -> dict[str, Any]:
    company = standin.company
    with company.lock:
        return {
            "now": company.now().isoformat(),
            "version": company.version,
            "records": {entity: len(company.ids(entity)) for entity in ENTITIES},
            "deleted": {
                entity: len(company.deleted(entity)) for entity in ("deals", "persons", "organizations", "activities")
            },
            "plan": asdict(company.plan),
            "tokens_left": standin.limits.left(company.plan),
            "requests": len(standin.requests),
            "latency_seconds": standin.latency_seconds,
            "faults": [asdict(fault) for fault in standin.faults.active],
        }


def _with_instants(arguments: dict[str, Any]) -> dict[str, Any]:
    """`at` arrives as RFC 3339 text."""
    at = arguments.get("at")
    return arguments if at is None else {**arguments, "at": datetime.fromisoformat(at)}


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, datetime) else value
