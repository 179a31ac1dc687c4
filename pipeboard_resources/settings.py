"""Every knob of Pipeboard, read from the environment, `.env` or a folder of secrets; only `definitions.py` and `cli.py` call `Settings()`."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SecretsSettingsSource, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource

from pipeboard_resources.pipedrive.key import KEY_PLACE, is_sendable

PROJECT_ROOT = Path(__file__).resolve().parent.parent

PIPEDRIVE_KEY_MISSING = (
    f"PIPEDRIVE_API_KEY is not set. Pipedrive shows it under {KEY_PLACE}; put it into .env. "
    "To look around without an account: make demo."
)


# Dagster's shortest freshness window is a minute.
_SHORTEST_HOURS = 1 / 60


class SettingError(Exception):
    """A setting that cannot be used on this machine; the message names it and says what to do."""


class MissingSettingError(SettingError):
    """A setting without which nothing can be done; the message names it and says where its value is found."""


def _default_state_dir() -> Path:
    """The checkout when there is one, else the user's state folder: the same place from whichever folder one calls."""
    if (PROJECT_ROOT / "pyproject.toml").exists():
        return PROJECT_ROOT / ".pipeboard"
    return Path.home() / ".local" / "state" / "pipeboard"


def _month(text: str) -> str:
    try:
        date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise ValueError(f"{text!r} is no month; write YYYY-MM, for example 2020-01") from error
    return text


def _known_zone(name: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ValueError(f"{name!r} is no time zone; write one such as America/Sao_Paulo") from error
    return name


def _holiday_calendar(code: str) -> str:
    if code in ("BR", "none"):  # looking up the rest takes 0.1 s
        return code
    from holidays import country_holidays

    country, _, region = code.partition("-")
    try:
        country_holidays(country, subdiv=region or None)
    except NotImplementedError as error:
        raise ValueError(f"{code!r} has no holidays that we know; write BR, a region as BR-SP, or none") from error
    return code


def _schema_of_ones_own(name: str) -> str:
    if name in ("bi", "pipedrive", "pipeboard", "dagster") or len(name.encode()) > 63:
        raise ValueError(f"{name!r} cannot hold them; write public, or a schema that is not Pipeboard's own")
    return name


def _slug(name: str) -> str:
    if name and not re.fullmatch(r"[a-z](?:[a-z0-9_]{0,30}[a-z0-9])?", name):
        raise ValueError(f"{name!r} is no short name; write small letters, digits and _, 32 at most, for example acme")
    return name


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_origin = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        )
    except ValueError:  # a port that is no number
        is_origin = False
    if not is_origin or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("no origin; write https:// and a host, for example https://your-company.pipedrive.com")
    return url.rstrip("/")


def _mask(word: str) -> str:
    if not re.fullmatch(r"\w+\.\w+=(hash|null)", word):
        raise ValueError(f"{word!r} is no mask; write persons.email=hash, or =null to leave the column empty")
    return word


def _words(text: object) -> object:
    return text.split() if isinstance(text, str) else text


def _redis_url(url: SecretStr) -> SecretStr:
    from redis.connection import parse_url

    try:
        parse_url(url.get_secret_value())  # type: ignore[no-untyped-call]  # redis leaves it without types
    except ValueError:
        # Not its own message: that may quote a part of the URL, and so the password.
        raise ValueError("no Redis URL; it looks like redis://:password@host:6379/0") from None
    return url


def _api_key(key: SecretStr) -> SecretStr:
    if not is_sendable(key.get_secret_value()):
        raise ValueError(f"holds characters that no key has; copy it again from Pipedrive: {KEY_PLACE}")
    return key


class _SecretFiles(SecretsSettingsSource):
    """Settings from files named like them, in the folder that the environment or `.env` names; an empty file sets nothing."""

    def __call__(self) -> dict[str, Any]:
        self.secrets_dir = self.current_state.get("PIPEBOARD_SECRETS_DIR")
        if self.secrets_dir is not None and not Path(self.secrets_dir).is_dir():
            raise SettingError(f"PIPEBOARD_SECRETS_DIR names {self.secrets_dir}, which is no folder.")
        try:
            return super().__call__()
        except OSError as error:
            raise SettingError(
                f"PIPEBOARD_SECRETS_DIR: {error.filename} cannot be read ({error.strerror}): "
                "let the user that Pipeboard runs as read it."
            ) from error

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        return value or None, key, is_complex


class Settings(BaseSettings):
    """Settings by environment variable; the name of each says its unit. Raises pydantic.ValidationError on a bad value."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    pipedrive_api_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = Field(
        None, alias="PIPEDRIVE_API_KEY", description=f"Pipedrive API token: {KEY_PLACE}."
    )
    pipedrive_base_url: Annotated[str, AfterValidator(_origin)] = Field(
        "https://api.pipedrive.com", alias="PIPEDRIVE_BASE_URL", description="Any origin, for example your company's."
    )
    account: Annotated[str, AfterValidator(_slug)] = Field(
        "",
        alias="PIPEBOARD_ACCOUNT",
        description="Short name of the company, before the names of its schemas and assets; for several in one database.",
    )
    database_url: SecretStr | None = Field(
        None, alias="DATABASE_URL", description="postgresql://user:password@host:5432/name. Empty: embedded PostgreSQL."
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None,
        alias="REDIS_URL",
        description="redis://:password@host:6379/0. Empty: embedded Redis if there is one, else no cache.",
    )
    dagster_home: Path | None = Field(
        None,
        alias="DAGSTER_HOME",
        description="Absolute path of Dagster's folder; an empty folder is filled with what it needs.",
    )
    pushgateway_address: str | None = Field(
        None,
        alias="PUSHGATEWAY_ADDRESS",
        description="host:port of a Prometheus Pushgateway; empty: nothing is pushed.",
    )
    state_dir: Path = Field(
        default_factory=_default_state_dir,
        alias="PIPEBOARD_STATE_DIR",
        description="Folder of embedded servers and the demo.",
    )
    history_start: Annotated[str, AfterValidator(_month)] = Field(
        "2020-01",
        alias="PIPEBOARD_HISTORY_START",
        description="First monthly partition (YYYY-MM); it is open to the past.",
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", alias="PIPEBOARD_TIMEZONE", description="Time zone of days and months in bi; monthly partitions are UTC."
    )
    holidays: Annotated[str, AfterValidator(_holiday_calendar)] = Field(
        "BR",
        alias="PIPEBOARD_HOLIDAYS",
        description="Whose holidays are no business days: a country, or a region as in BR-SP; none: no holidays.",
    )
    week_start: Literal["monday", "sunday"] = Field(
        "monday", alias="PIPEBOARD_WEEK_START", description="First day of the week: monday or sunday."
    )
    fiscal_year_start: int = Field(
        1,
        ge=1,
        le=12,
        alias="PIPEBOARD_FISCAL_YEAR_START",
        description="Month in which the fiscal year begins, 1 to 12.",
    )
    old_names_schema: Annotated[str, AfterValidator(_schema_of_ones_own)] = Field(
        "",
        alias="PIPEBOARD_OLD_NAMES_SCHEMA",
        description="Schema for views with the Portuguese names of earlier dashboards; empty: none.",
    )
    versions: Annotated[tuple[Literal["deals", "persons", "organizations"], ...], NoDecode, BeforeValidator(_words)] = (
        Field(
            (),
            alias="PIPEBOARD_VERSIONS",
            description="Whose earlier versions are kept, separated by spaces: deals persons organizations.",
        )
    )
    mask: Annotated[tuple[Annotated[str, AfterValidator(_mask)], ...], NoDecode, BeforeValidator(_words)] = Field(
        (),
        alias="PIPEBOARD_MASK",
        description="Columns to hide, separated by spaces: persons.email=hash persons.notes=null.",
    )
    mask_key: SecretStr | None = Field(
        None, alias="PIPEBOARD_MASK_KEY", description="Secret of the hashes; another one gives other hashes."
    )
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_words)] = Field(
        (), alias="PIPEBOARD_ALERT_URLS", description="Apprise URLs, separated by spaces."
    )
    ui_url: Annotated[str, AfterValidator(_origin)] = Field(
        "http://127.0.0.1:3000", alias="PIPEBOARD_UI_URL", description="Where Dagster's UI is, for links in alerts."
    )
    metabase_url: Annotated[str, AfterValidator(_origin)] | None = Field(
        None, alias="METABASE_URL", description="Where Metabase is, for links in Dagster's UI; empty: none."
    )
    token_reserve_percent: float = Field(
        10,
        ge=0,
        lt=100,
        alias="PIPEBOARD_TOKEN_RESERVE_PERCENT",
        description="Share of the day's API tokens left for the account's other integrations.",
    )
    max_delete_percent: float = Field(
        10,
        ge=0,
        le=100,
        alias="PIPEBOARD_MAX_DELETE_PERCENT",
        description="Largest share of a table that one reconciliation may mark deleted without --allow-mass-delete; five "
        "rows it may always.",
    )
    fresh_warn_hours: float = Field(
        4,
        ge=_SHORTEST_HOURS,
        alias="PIPEBOARD_FRESH_WARN_HOURS",
        description="Age of a table at which it counts as late.",
    )
    fresh_fail_hours: float = Field(
        6,
        ge=_SHORTEST_HOURS,
        alias="PIPEBOARD_FRESH_FAIL_HOURS",
        description="Age of a table at which it counts as stale.",
    )
    overlap_seconds: int = Field(
        600,
        ge=1,
        alias="PIPEBOARD_OVERLAP_SECONDS",
        description="How far before the watermark an incremental sync re-reads.",
    )
    readers: int = Field(
        4, ge=1, le=32, alias="PIPEBOARD_READERS", description="Requests of one list under way at the same time."
    )
    page_size: int = Field(
        500, ge=1, le=500, alias="PIPEBOARD_PAGE_SIZE", description="Records per request; the API allows 500."
    )
    request_timeout_seconds: float = Field(
        60, gt=0, alias="PIPEBOARD_REQUEST_TIMEOUT_SECONDS", description="Longest wait for one answer of the API."
    )
    retry_attempts: int = Field(
        6, ge=1, alias="PIPEBOARD_RETRY_ATTEMPTS", description="Tries of one request, the first included."
    )
    retry_total_seconds: float = Field(
        120,
        ge=0,
        alias="PIPEBOARD_RETRY_TOTAL_SECONDS",
        description="Longest time spent on one request with all its tries.",
    )
    cache_fields_seconds: int = Field(
        3600, ge=0, alias="PIPEBOARD_CACHE_FIELDS_SECONDS", description="How long field metadata stays in the cache."
    )
    cache_lists_seconds: int = Field(
        900,
        ge=0,
        alias="PIPEBOARD_CACHE_LISTS_SECONDS",
        description="How long users, pipelines, stages and activity types do.",
    )
    lock_timeout_seconds: float = Field(
        30,
        gt=0,
        alias="PIPEBOARD_LOCK_TIMEOUT_SECONDS",
        description="Longest wait for a lock that somebody's query holds.",
    )
    statement_timeout_seconds: float = Field(
        3600, gt=0, alias="PIPEBOARD_STATEMENT_TIMEOUT_SECONDS", description="Longest time of one SQL statement."
    )
    step_retry_seconds: float = Field(
        15,
        ge=0,
        alias="PIPEBOARD_STEP_RETRY_SECONDS",
        description="Wait before a table whose load met a lost connection or a lock is tried again, twice at most.",
    )

    secrets_dir: Path | None = Field(
        None,
        alias="PIPEBOARD_SECRETS_DIR",
        description="Folder of files named like settings, such as database_url; the environment goes before them.",
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        alias="PIPEBOARD_LOG_FORMAT",
        description="text: warnings, to be read; json: every step, one object a line.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls)

    @model_validator(mode="after")
    def _hash_with_a_key(self) -> Self:
        if self.mask_key is None and any(word.endswith("=hash") for word in self.mask):
            raise ValueError("PIPEBOARD_MASK hashes columns, so PIPEBOARD_MASK_KEY must hold a secret of your own")
        return self

    @model_validator(mode="after")
    def _warn_before_fail(self) -> Self:
        if self.fresh_warn_hours >= self.fresh_fail_hours:
            raise ValueError("PIPEBOARD_FRESH_WARN_HOURS must be less than PIPEBOARD_FRESH_FAIL_HOURS")
        return self

    @property
    def prefix(self) -> str:
        """What stands before the names of this company's schemas, assets and jobs."""
        return f"{self.account}_" if self.account else ""

    @property
    def warns_after(self) -> timedelta:
        return timedelta(hours=self.fresh_warn_hours)

    @property
    def fails_after(self) -> timedelta:
        return timedelta(hours=self.fresh_fail_hours)

    @property
    def overlap(self) -> timedelta:
        return timedelta(seconds=self.overlap_seconds)
