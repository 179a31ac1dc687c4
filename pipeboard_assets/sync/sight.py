"""What a key may see: rows hidden from its user look exactly like rows that are gone. No Dagster."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipeboard_io import Warehouse
from pipeboard_io.errors import LoadError, MassDeleteError

if TYPE_CHECKING:  # it loads httpx and redis, which the graph does not need before it runs
    from pipeboard_resources.pipedrive.client import PipedriveClient

_LAST_COMPANY = """
SELECT facts ->> 'account' AS account, (facts ->> 'company')::bigint AS company FROM pipeboard.load
WHERE status = 'success' AND facts ->> 'company' IS NOT NULL ORDER BY id DESC LIMIT 1
"""

_LAST_USER = """
SELECT facts ->> 'key_user' AS id, coalesce((facts ->> 'key_is_admin')::boolean, false) AS is_admin FROM pipeboard.load
WHERE entity = %s AND mode IN ('full', 'history') AND status = 'success' AND facts ? 'key_user' ORDER BY finished_at DESC LIMIT 1
"""
_EXISTS = "SELECT to_regclass('pipedrive.{table}') IS NOT NULL AS exists"
_OWNERS = """
SELECT owner_id, count(*) AS rows FROM pipedrive.{table}
WHERE deleted_at IS NULL AND owner_id IS NOT NULL GROUP BY owner_id ORDER BY rows DESC
"""
_SOME = """
SELECT id FROM pipedrive.{table} WHERE deleted_at IS NULL AND owner_id = ANY(%s) ORDER BY id LIMIT %s
"""
_SHOWN = 10


class AnotherCompanyError(LoadError):
    """The key is of another company than the rows that are stored: together they would be nobody's."""


def company_of(warehouse: Warehouse, client: "PipedriveClient") -> int | None:
    """The company that the key belongs to: the stored one while key and address are the same, else Pipedrive is asked.

    Raises AnotherCompanyError, and the tree of errors.py.
    """
    last = warehouse.query(_LAST_COMPANY)
    if last and last[0]["account"] == client.account:
        return int(last[0]["company"])
    found = client.current_user().get("company_id")
    if last and found is not None and found != last[0]["company"]:
        raise AnotherCompanyError(
            f"the key belongs to company {found}, and the tables hold company {last[0]['company']}: nothing was changed. "
            "Use that company's key, or another DATABASE_URL for this one"
        )
    return found


@dataclass(frozen=True, slots=True)
class KeyUser:
    """Whose key it is. A global admin sees every record."""

    id: int | None
    is_admin: bool

    @classmethod
    def of(cls, user: Mapping[str, Any]) -> Self:
        """From the object that /v1/users/me answers."""
        rights = user.get("access") or ()
        is_global = any(right.get("app") == "global" and right.get("admin") for right in rights)
        return cls(user.get("id"), bool(is_global or user.get("is_admin")))


def require_same_sight(warehouse: Warehouse, entity: str, user: KeyUser, owners_seen: Collection[int]) -> None:
    """Refuse to take for gone what the key may just not see. `owners_seen`: owners of the records that a sweep met.

    Raises MassDeleteError where the user is no global admin, and is not the one of the last full sync, was an admin then,
    or has lost sight of every record of an owner.
    """
    if user.is_admin or not warehouse.query(_EXISTS.format(table=entity))[0]["exists"]:
        return
    stored = warehouse.query(_OWNERS.format(table=entity))
    living = sum(row["rows"] for row in stored)
    last = warehouse.query(_LAST_USER, [entity])
    if last and last[0]["id"] != str(user.id):
        raise _refusal(
            warehouse, entity, f"the key is another user's ({user.id}, before {last[0]['id']})", living, stored
        )
    if last and last[0]["is_admin"]:
        raise _refusal(warehouse, entity, f"user {user.id} was a global admin at the last full sync", living, stored)
    lost = [row for row in stored if row["owner_id"] not in owners_seen]
    if lost:
        owners = ", ".join(str(row["owner_id"]) for row in lost[:_SHOWN])
        raise _refusal(warehouse, entity, f"no record of {len(lost)} owners was met any more ({owners})", living, lost)


def _refusal(
    warehouse: Warehouse, entity: str, seen: str, living: int, groups: list[dict[str, Any]]
) -> MassDeleteError:
    owners = [row["owner_id"] for row in groups]
    found = warehouse.query(_SOME.format(table=entity), [owners, _SHOWN])
    count, ids = sum(row["rows"] for row in groups), [str(row["id"]) for row in found]
    return MassDeleteError(
        f"reconciling {entity}: {seen}, and the key is no global admin's now, so {count} of {living} rows may be hidden and not "
        f"gone, among them {', '.join(ids)}: nothing was changed. Use a global admin's key; if they are really gone, run "
        "with --full --allow-mass-delete",
        count=count,
        living=living,
        ids=ids,
    )
