"""Random but plausible values of every custom-field type, as v2 sends them (api.md 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from pipeboard_resources.pipedrive.standin.fields import Field
from pipeboard_resources.pipedrive.standin.words import CITIES, DISTRICTS, PHRASES, STREETS

_TIMEZONES = ((227, "America/Sao_Paulo"), (223, "America/Manaus"), (318, "Europe/London"))
_CURRENCIES = ("BRL", "BRL", "BRL", "BRL", "USD", "EUR")

# api.md 5.3: the server prints full precision; these lose digits in a double.
_HARD_NUMBERS = (
    9007199254740993,
    Decimal("0.30000000000000004"),
    Decimal("123456789012345678.90"),
    Decimal("-0.00000001"),
    0,
    -17,
)


@dataclass(frozen=True, slots=True)
class Links:
    """Ids that user, org and people fields may point to."""

    users: Sequence[int]
    organizations: Sequence[int]
    persons: Sequence[int]


def amount(rng: Random, low: int = 100, high: int = 90_000) -> int | Decimal:
    """An amount of money: whole in half of the cases, else with cents."""
    whole = rng.randrange(low, high)
    if rng.random() < 0.5:
        return whole
    return Decimal(whole * 100 + rng.randrange(1, 100)).scaleb(-2)


def currency(rng: Random) -> str:
    """Mostly the company's own, BRL."""
    return rng.choice(_CURRENCIES)


def address(rng: Random) -> dict[str, Any]:
    """An address object; parts may be null or empty (api.md 4.7)."""
    city, state, code = rng.choice(CITIES)
    street, house = rng.choice(STREETS), rng.randrange(1, 2000)
    return {
        "value": f"{street}, {house} - {city}, {state}, Brasil",
        "country": "Brasil",
        "admin_area_level_1": state,
        "admin_area_level_2": city,
        "locality": "",
        "sublocality": rng.choice(DISTRICTS),
        "route": street,
        "street_number": str(house),
        "subpremise": None if rng.random() < 0.7 else f"Sala {rng.randrange(1, 40)}",
        "postal_code": code,
    }


def phone(rng: Random) -> str:
    """A Brazilian number."""
    return f"+55 {rng.randrange(11, 99)} 9{rng.randrange(1000, 9999)}-{rng.randrange(1000, 9999)}"


def day(rng: Random, now: datetime, *, before: int = 900, after: int = 200) -> str:
    """A date around now."""
    return (now + timedelta(days=rng.randrange(-before, after))).date().isoformat()


def _text(rng: Random) -> str:
    return f"{rng.choice(PHRASES)} {rng.randrange(1000)}"


def _number(rng: Random) -> int | Decimal:
    return rng.choice(_HARD_NUMBERS) if rng.random() < 0.05 else amount(rng, 0, 1000)


def _time(rng: Random, hour: int = 7) -> str:
    return f"{rng.randrange(hour, hour + 6):02d}:{rng.choice((0, 15, 30, 45)):02d}:00"


def _zone(rng: Random) -> dict[str, Any]:
    number, name = rng.choice(_TIMEZONES)
    return {"timezone_id": number, "timezone_name": name}


def _date_range(rng: Random, now: datetime) -> dict[str, str]:
    start = now + timedelta(days=rng.randrange(-900, 0))
    return {
        "value": start.date().isoformat(),
        "until": (start + timedelta(days=rng.randrange(1, 720))).date().isoformat(),
    }


def _subset(rng: Random, ids: Sequence[int | str]) -> list[int | str]:
    return sorted(rng.sample(ids, rng.randrange(1, len(ids) + 1)), key=str)


def maker(field: Field, rng: Random, links: Links, now: datetime) -> Callable[[], Any]:
    """A function that makes one value of the field's type; ValueError for a type that users cannot create."""
    option_ids = [option.id for option in field.options or ()]
    makers: dict[str, Callable[[], Any]] = {
        "varchar": lambda: _text(rng),
        "varchar_auto": lambda: rng.choice(DISTRICTS),
        "text": lambda: f"{rng.choice(PHRASES)}\n{rng.choice(PHRASES)}",
        "double": lambda: _number(rng),
        "monetary": lambda: {"value": amount(rng), "currency": currency(rng)},
        "set": lambda: _subset(rng, option_ids),
        "enum": lambda: rng.choice(option_ids),
        "user": lambda: rng.choice(links.users),
        "org": lambda: rng.choice(links.organizations),
        "people": lambda: rng.choice(links.persons),
        "phone": lambda: phone(rng),
        "time": lambda: {"value": _time(rng), **_zone(rng)},
        "timerange": lambda: {"value": _time(rng), "until": _time(rng, 14), **_zone(rng)},
        "date": lambda: day(rng, now),
        "daterange": lambda: _date_range(rng, now),
        "address": lambda: address(rng),
    }
    if field.type not in makers:
        raise ValueError(f"Field {field.name!r}: users cannot create fields of type {field.type!r}.")
    return makers[field.type]
