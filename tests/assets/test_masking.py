"""What is masked never reaches the loader, neither in a row nor in a rejected record, and stays comparable."""

from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr, ValidationError

from pipeboard_assets.records.masking import Masks, masked
from pipeboard_io import Batch, Column, Load, Reject, Table
from pipeboard_io import ColumnType as T
from pipeboard_resources.settings import SettingError, Settings

PERSONS = Table(
    "pipedrive",
    "persons",
    (Column("id", T.BIGINT, nullable=False), Column("name", T.TEXT), Column("email", T.TEXT), Column("emails", T.JSONB),
     Column("birthday", T.DATE), Column("update_time", T.TIMESTAMPTZ)),
    version_column="update_time",
)  # fmt: skip
MAIL = "ana@example.com"


def carried_out(words: list[str], *, as_function: bool = False, key: bytes = b"k") -> Batch:
    frame = pl.DataFrame(
        {"id": [1, 2, 3], "name": [MAIL, "", None], "email": [MAIL, MAIL, None], "emails": [f'["{MAIL}"]', "[]", None]}
    )
    rejects = (
        Reject("1", "birthday", "'x' is no date", f'{{"email": "{MAIL}"}}'),
        Reject("2", "email", f"'{MAIL}' is too long", f'{{"email": "{MAIL}"}}'),
        Reject("3", None, f"{MAIL} is no id", f'{{"email": "{MAIL}"}}'),
    )
    batch = Batch(frame, rejects, {"page": 2})
    load = masked(
        Load(PERSONS, frames=(lambda _: [batch]) if as_function else [batch], resume_key="r"), Masks(words, key)
    )
    frames: Any = load.frames
    assert (load.resume_key == "r") is (not words)
    (made,) = frames(None) if callable(frames) else frames
    return made if isinstance(made, Batch) else Batch(made)


@pytest.mark.parametrize("as_function", [True, False])
def test_hashes_are_the_same_for_the_same_value_in_every_column(as_function: bool) -> None:
    made = carried_out(["persons.email=hash", "persons.name=hash", "persons.emails=null"], as_function=as_function)
    email, name = made.frame["email"].to_list(), made.frame["name"].to_list()
    assert email[0] == email[1] == name[0] and len(email[0]) == 64
    assert name[1] not in ("", email[0])
    assert (email[2], name[2], made.frame["emails"].to_list()) == (None, None, [None] * 3)
    assert made.checkpoint == {"page": 2}


def test_nothing_of_a_masked_value_is_left_anywhere() -> None:
    made = carried_out(["persons.email=hash", "persons.name=hash", "persons.emails=hash"])
    assert MAIL not in repr(made.frame.to_dicts()) + repr(made.rejects)
    assert made.rejects[0].reason == "'x' is no date"
    assert made.frame["emails"].to_list()[0].strip('"') != made.frame["emails"].to_list()[0]


def test_another_key_gives_another_hash_and_no_mask_changes_nothing() -> None:
    word = ["persons.email=hash"]
    assert carried_out(word).frame["email"][0] != carried_out(word, key=b"other").frame["email"][0]
    assert MAIL in repr(carried_out([]).rejects)
    assert carried_out(["deals.title=null"][:0]).frame["email"][0] == MAIL


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("people.email=hash", "names no table"),
        ("persons.mail=hash", "names no column"),
        ("persons.id=null", "itself needs"),
        ("persons.update_time=null", "itself needs"),
        ("persons.birthday=hash", "persons.birthday=null"),
    ],
)
def test_a_mask_that_hides_nothing_is_an_error(word: str, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        carried_out([word])


def test_settings_refuse_a_mask_that_is_none_and_hashes_without_a_key() -> None:
    for words, told in (("persons.email", "is no mask"), ("persons.email=hash", "PIPEBOARD_MASK_KEY")):
        with pytest.raises(ValidationError, match=told):
            Settings(_env_file=None, mask=words)
    settings = Settings(_env_file=None, mask="persons.email=hash persons.notes=null", mask_key=SecretStr("k"))
    assert settings.mask == ("persons.email=hash", "persons.notes=null")
