"""Empty records in the shape of api.md section 4: every documented key is there, with the value an unset field has.

v2 records keep only the custom values that are set; Company adds the nulls of the others when it shows a record.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def user(number: int, now: str) -> Record:
    """A v1 user (zoneless times, mixed flags)."""
    return {
        "id": number,
        "name": f"Usuário {number}",
        "default_currency": "BRL",
        "locale": "pt_BR",
        "lang": 5,
        "email": f"usuario{number}@example.com",
        "phone": None,
        "activated": True,
        "last_login": now,
        "created": now,
        "modified": now,
        "has_created_company": False,
        "access": [{"app": "global", "admin": False, "permission_set_id": "233b7976-39bd-43a9-b305-ef3a2b0998e5"}],
        "active_flag": True,
        "timezone_name": "America/Sao_Paulo",
        "timezone_offset": "-03:00",
        "role_id": 1,
        "icon_url": None,
        "is_you": False,
        "is_deleted": False,
        "is_admin": 0,
    }


def activity_type(number: int, now: str) -> Record:
    """A v1 activity type; activities point to its key_string."""
    return {
        "id": number,
        "order_nr": number,
        "name": f"Tipo {number}",
        "key_string": f"tipo_{number}",
        "icon_key": "task",
        "active_flag": True,
        "color": None,
        "is_custom_flag": True,
        "add_time": now,
        "update_time": now,
    }


def pipeline(number: int, now: str) -> Record:
    """A v2 pipeline."""
    return {
        "id": number,
        "name": f"Funil {number}",
        "order_nr": number,
        "is_deleted": False,
        "is_deal_probability_enabled": True,
        "add_time": now,
        "update_time": now,
    }


def stage(number: int, now: str) -> Record:
    """A v2 stage."""
    return {
        "id": number,
        "order_nr": number,
        "name": f"Etapa {number}",
        "is_deleted": False,
        "deal_probability": 100,
        "pipeline_id": 1,
        "is_deal_rot_enabled": False,
        "days_to_rotten": None,
        "add_time": now,
        "update_time": now,
    }


def organization(number: int, now: str) -> Record:
    """A v2 organization, with the five keys that depend on the plan."""
    return {
        "id": number,
        "name": f"Organização {number}",
        "owner_id": None,
        "add_time": now,
        "update_time": now,
        "is_deleted": False,
        "visible_to": 7,
        "address": None,
        "label_ids": [],
        "website": None,
        "linkedin": None,
        "industry": None,
        "annual_revenue": None,
        "employee_count": None,
        "custom_fields": {},
    }


def person(number: int, now: str) -> Record:
    """A v2 person of an account with contact sync (im, postal_address, notes, birthday, job_title)."""
    return {
        "id": number,
        "name": f"Pessoa {number}",
        "first_name": "Pessoa",
        "last_name": str(number),
        "owner_id": None,
        "org_id": None,
        "add_time": now,
        "update_time": now,
        "emails": [],
        "phones": [],
        "is_deleted": False,
        "visible_to": 7,
        "label_ids": [],
        "picture_id": None,
        "im": [],
        "postal_address": None,
        "notes": None,
        "birthday": None,
        "job_title": None,
        "custom_fields": {},
    }


def deal(number: int, now: str) -> Record:
    """A v2 deal, open and not archived."""
    return {
        "id": number,
        "title": f"Negócio {number}",
        "creator_user_id": None,
        "owner_id": None,
        "value": 0,
        "person_id": None,
        "org_id": None,
        "stage_id": None,
        "pipeline_id": None,
        "currency": "BRL",
        "archive_time": None,
        "add_time": now,
        "update_time": now,
        "stage_change_time": None,
        "status": "open",
        "is_archived": False,
        "is_deleted": False,
        "probability": None,
        "lost_reason": None,
        "visible_to": 7,
        "close_time": None,
        "won_time": None,
        "lost_time": None,
        "local_won_date": None,
        "local_lost_date": None,
        "local_close_date": None,
        "expected_close_date": None,
        "label_ids": [],
        "origin": "ManuallyCreated",
        "origin_id": None,
        "channel": None,
        "channel_id": None,
        "acv": None,
        "arr": None,
        "mrr": None,
        "custom_fields": {},
    }


def activity(number: int, now: str) -> Record:
    """A v2 activity; v2 never sends custom fields with it. `attendees` is sent on request only."""
    return {
        "id": number,
        "subject": f"Atividade {number}",
        "type": "task",
        "owner_id": None,
        "creator_user_id": None,
        "is_deleted": False,
        "add_time": now,
        "update_time": now,
        "deal_id": None,
        "lead_id": None,
        "person_id": None,
        "org_id": None,
        "project_id": None,
        "due_date": None,
        "due_time": None,
        "duration": None,
        "busy": False,
        "done": False,
        "marked_as_done_time": None,
        "location": None,
        "participants": [],
        "conference_meeting_client": None,
        "conference_meeting_url": None,
        "conference_meeting_id": None,
        "public_description": None,
        "priority": None,
        "note": None,
    }


BLANKS = {
    "users": user,
    "activity_types": activity_type,
    "pipelines": pipeline,
    "stages": stage,
    "organizations": organization,
    "persons": person,
    "deals": deal,
    "activities": activity,
}

ENTITIES = tuple(BLANKS)
V1_ENTITIES = ("users", "activity_types")
WITH_CUSTOM_FIELDS = ("organizations", "persons", "deals")
