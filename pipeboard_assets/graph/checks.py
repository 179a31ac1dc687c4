"""What must be true of a table after every load. Declared once: the catalogue says which columns, these say what of them.

Each check is one SELECT of findings; all checks of a table travel in one statement. No Dagster.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_io import Warehouse
from pipeboard_io.snapshot import Snapshot

_EXAMPLES = 5

# A share of a handful of rows says nothing: so many findings are never an error by their share.
_SPARE_ROWS = 5

_QUIET_DAYS = 14

_NOTHING_MASKED: Mapping[str, str] = {}


class Severity(StrEnum):
    """ERROR: the table would mislead, so the run is red and nothing downstream is computed from it. WARN: look at it."""

    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim about a table.

    `findings` is a SELECT of (text, rows): what contradicts the claim, and how many rows do so. `tolerated_percent`:
    findings in more than this share of the living rows are an ERROR, fewer a WARN; None makes none of them an ERROR.
    """

    name: str
    expected: str
    findings: str
    remedy: str
    tolerated_percent: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: rows that contradict it, and examples of them."""

    check: Check
    severity: Severity
    found: int
    examples: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        return not self.found

    @property
    def seen(self) -> str:
        """One line: how many, and the first examples."""
        if self.is_passed:
            return "as expected"
        return f"{self.found:,} {'exception' if self.found == 1 else 'exceptions'}: {'; '.join(self.examples)}"

    def __str__(self) -> str:
        return f"check {self.check.name}: {self.check.expected} Seen: {self.seen}. {self.check.remedy}"


def verdicts(warehouse: Warehouse | Snapshot, table: str, checks: Sequence[Check]) -> list[Verdict]:
    """Carry out the checks of `table` ("schema.name"), in order. Raises WarehouseError."""
    if not checks:
        return []
    found = warehouse.query("\nUNION ALL\n".join(_summary(table, check) for check in checks))
    return [
        Verdict(check, _severity(check, row["found"], row["rows"]), row["found"], tuple(row["examples"] or ()))
        for check, row in zip(checks, found, strict=True)
    ]


def _severity(check: Check, found: int, rows: int) -> Severity:
    if check.tolerated_percent is None:
        return Severity.WARN
    if not check.tolerated_percent:
        return Severity.ERROR
    is_error = (found > _SPARE_ROWS or not rows) and found * 100 > rows * check.tolerated_percent
    return Severity.ERROR if is_error else Severity.WARN


def _summary(table: str, check: Check) -> str:
    rows = _rows_of(table) if check.tolerated_percent else "0"  # nobody asks for the share
    return f"""
        SELECT coalesce(sum(f.rows), 0)::bigint AS found,
               array_agg(f.finding ORDER BY f.number) FILTER (WHERE f.number <= {_EXAMPLES}) AS examples,
               {rows} AS rows
        FROM (SELECT finding, rows, row_number() OVER (ORDER BY rows DESC, finding) AS number FROM ({check.findings}) AS g (finding, rows)) AS f"""


def _rows_of(table: str) -> str:
    """Living rows after the newest load, which its ledger row tells without counting again."""
    name = table.partition(".")[2]
    return f"coalesce((SELECT rows FROM {_successes(name)} LIMIT 1), (SELECT count(*) FROM {table}))"


def _successes(name: str) -> str:
    return f"""(SELECT id, rows, columns_added, columns_widened, columns_narrower FROM pipeboard.load
                WHERE entity = '{name}' AND status = 'success' ORDER BY id DESC LIMIT 11) AS load"""


def entity_checks(
    entity: Entity, complete: frozenset[str] = frozenset(), masked: Mapping[str, str] = _NOTHING_MASKED
) -> tuple[Check, ...]:
    """The checks that an entity's declaration asks for. `complete`: entities that were read whole, so that what is not
    in their table is not there; `masked`: columns that the settings hide, and how."""
    table = f"pipedrive.{entity.name}"
    required = [name for name in entity.required if masked.get(name) != "null"]
    optional = (
        _required_columns(required, table) if required else None,
        _references(entity, table, complete) if entity.references else None,
        _watermark(entity) if entity.is_incremental else None,
        _custom_fields(entity.name, table) if entity.fields is not None else None,
        _summary_of_pipedrive(entity, table, masked.keys()) if entity.has_summary else None,
    )
    always = (_unique_key(table, "id"), _volume(entity.name), _rejected_records(entity.name), _columns(entity.name))
    return (*always, *(check for check in optional if check is not None))


def changelog_checks() -> tuple[Check, ...]:
    """What Pipedrive's changelogs say of deals, line against line."""
    return (
        Check(
            name="moves_join",
            expected="Every move of a deal begins in the stage in which the one before it ended.",
            findings=f"""
                SELECT format('deal %s: line %s moves from stage %s, the one before it to stage %s', deal_id, position, old_value, before), 1
                FROM (SELECT *, lag(new_value) OVER (PARTITION BY deal_id ORDER BY position) AS before
                      FROM {DEAL_CHANGELOG} WHERE field = 'stage_id') AS move
                WHERE before IS DISTINCT FROM old_value AND before IS NOT NULL""",
            remedy="Pipedrive's changelog lacks a line, or one was rejected: the stage between is missing in the stage history.",
            tolerated_percent=None,
        ),
        replace(
            _rejected_records(DEAL_CHANGELOG.name),
            remedy=f"Each stands with its reason in pipeboard.rejected_record (entity = '{DEAL_CHANGELOG.name}').",
        ),
    )


def main_bi_checks() -> tuple[Check, ...]:
    """The mart against the deals that it is made of."""
    return (
        _unique_key(str(MAIN_BI), "deal_id"),
        _volume(MAIN_BI.name),
        Check(
            name="one_row_per_living_deal",
            expected="Every living deal has a row, and no other deal has one.",
            findings="""
                SELECT CASE WHEN m.deal_id IS NULL THEN format('deal %s has no row', d.id)
                            ELSE format('deal %s has a row but is not alive', m.deal_id) END, 1
                FROM (SELECT id FROM pipedrive.deals WHERE deleted_at IS NULL) AS d
                FULL JOIN bi.main_bi AS m ON m.deal_id = d.id
                WHERE d.id IS NULL OR m.deal_id IS NULL""",
            remedy=_AGAIN.format("main_bi"),
        ),
        Check(
            name="sums_by_currency",
            expected="The deals' values add up to the same sum in every currency as in pipedrive.deals.",
            findings="""
                SELECT format('%s: %s here, %s in pipedrive.deals', coalesce(m.currency, d.currency, '(none)'),
                              coalesce(m.total, 0), coalesce(d.total, 0)), 1
                FROM (SELECT currency, sum(value) AS total FROM pipedrive.deals WHERE deleted_at IS NULL
                      GROUP BY currency) AS d
                FULL JOIN (SELECT currency, sum(value) AS total FROM bi.main_bi GROUP BY currency) AS m
                       ON coalesce(m.currency, '') = coalesce(d.currency, '')
                WHERE m.total IS DISTINCT FROM d.total""",
            remedy=_AGAIN.format("main_bi"),
        ),
        Check(
            name="exchange_rates",
            expected="Once pipeboard.exchange_rate is filled, every currency has a rate on the day of each deal.",
            findings="""
                SELECT format('%s: %s deals without a rate', currency, count(*)), count(*) FROM bi.main_bi
                WHERE value IS NOT NULL AND currency IS NOT NULL AND value_in_default_currency IS NULL
                      AND EXISTS (SELECT FROM pipeboard.exchange_rate)
                GROUP BY currency""",
            remedy="Add the rates to pipeboard.exchange_rate; until then value_in_default_currency is NULL there.",
            tolerated_percent=None,
        ),
    )


_AGAIN = "A sync beside this one may be the cause: run `pipeboard sync --select {}` once more."


def _unique_key(table: str, key: str) -> Check:
    return Check(
        name="unique_key",
        expected=f"{key} is there in every row and in one row only.",
        # The primary key says so already; without one the rows are counted.
        findings=f"""
            SELECT format('{key} %s: %s rows', coalesce({key}::text, 'NULL'), count(*)), count(*)
            FROM {table}
            WHERE NOT EXISTS (
                SELECT FROM pg_index AS i WHERE i.indrelid = '{table}'::regclass AND i.indisprimary AND i.indisvalid
                AND ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey))
                    = ARRAY['{key}'])
            GROUP BY {key} HAVING count(*) > 1 OR {key} IS NULL""",
        remedy=f"Somebody took the primary key away: remove the doubles, then ALTER TABLE {table} ADD PRIMARY KEY ({key}).",
    )


def _required_columns(required: Sequence[str], table: str) -> Check:
    lacking = ", ".join(f"CASE WHEN {name} IS NULL THEN '{name}' END" for name in required)
    return Check(
        name="required_columns",
        expected=f"{', '.join(required)}: filled in every living row.",
        findings=f"""
            SELECT format('id %s lacks %s', id, concat_ws(', ', {lacking})), 1
            FROM {table} WHERE deleted_at IS NULL AND ({" OR ".join(f"{name} IS NULL" for name in required)})""",
        remedy="Fill them in in Pipedrive. So many at once would mean that the API names them otherwise now: "
        "look into the column `extra`.",
        tolerated_percent=1,
    )


def _references(entity: Entity, table: str, complete: frozenset[str]) -> Check:
    return Check(
        name="references",
        expected=f"Whatever {', '.join(entity.references)} refer to is there.",
        findings="\nUNION ALL\n".join(
            _unresolved(table, column, target) if target in complete else _incomplete(column, target)
            for column, target in entity.references.items()
        ),
        remedy="A few are records (often users) that were deleted before the first sync, or that this API key may not see. "
        "Many: `pipeboard sync --full` reads the tables that they are missing from again.",
        # With `--select deals` alone nothing could be looked up, which says nothing against the deals.
        tolerated_percent=10 if complete.issuperset(entity.references.values()) else None,
    )


def _unresolved(table: str, column: str, target: str) -> str:
    return f"""
        SELECT format('{column} %s is not in {target} (%s rows, id %s)', t.{column}, count(*), min(t.id)), count(*)
        FROM {table} AS t
        WHERE t.deleted_at IS NULL AND t.{column} IS NOT NULL
          AND NOT EXISTS (SELECT FROM pipedrive.{target} AS r WHERE r.id = t.{column})
        GROUP BY t.{column}"""


def _incomplete(column: str, target: str) -> str:
    return f"SELECT '{column} cannot be looked up: {target} was never read whole', 1"


def _volume(name: str) -> Check:
    """The number of living rows against the median of the loads before. What is missing is counted as found, so that
    less than a tenth left is an ERROR and a table that merely shrank or grew is a WARN."""
    return Check(
        name="volume",
        expected="About as many living rows as in the last ten loads: between half and twice the usual number.",
        findings=f"""
            SELECT format('%s rows are alive; usually %s are', now, usual), abs(now - usual)::bigint
            FROM (SELECT (array_agg(rows ORDER BY id DESC))[1] AS now,
                         percentile_cont(0.5) WITHIN GROUP (ORDER BY rows) FILTER (WHERE id <> newest) AS usual,
                         count(*) - 1 AS before
                  FROM (SELECT *, max(id) OVER () AS newest FROM {_successes(name)}) AS load) AS volume
            WHERE now = 0 AND usual > 0 OR before >= 3 AND usual >= 20 AND now NOT BETWEEN usual / 2 AND usual * 2""",
        remedy="Look in Pipedrive whether that is so, and whether the key's user still sees everything: `pipeboard doctor`.",
        tolerated_percent=900,
    )


def _rejected_records(name: str) -> Check:
    return Check(
        name="rejected_records",
        expected="Every value that Pipedrive sent could be stored.",
        findings=f"""
            SELECT format('id %s: %s', record_key, concat_ws(': ', nullif(string_agg(column_name, ', '), ''), min(reason))), 1
            FROM pipeboard.rejected_record WHERE entity = '{name}' AND resolved_at IS NULL GROUP BY record_key""",
        remedy=f"Each stands with its reason in pipeboard.rejected_record (entity = '{name}'). Correct it in Pipedrive; "
        "the next sync stores it.",
        tolerated_percent=5,
    )


def _columns(name: str) -> Check:
    newest = f"(SELECT *, count(*) OVER () AS loads FROM {_successes(name)} LIMIT 1) AS newest"
    return Check(
        name="columns",
        expected="The columns are those of the load before, with the declared types, and Pipedrive sent no other attribute.",
        findings=f"""
            SELECT 'new column ' || name, 1 FROM {newest}, unnest(columns_added) AS name WHERE loads > 1
            UNION ALL SELECT 'wider column ' || name, 1 FROM {newest}, unnest(columns_widened) AS name
            UNION ALL SELECT 'other type in the database: ' || name, 1 FROM {newest}, unnest(columns_narrower) AS name
            UNION ALL
            SELECT format('unknown attribute %s, kept in extra (%s rows)', key, count(*)), 1
            FROM pipedrive.{name}, jsonb_object_keys(extra) AS key WHERE extra IS NOT NULL GROUP BY key""",
        remedy="Nothing is lost. Reports that select columns by name go on; look whether they want the new ones.",
        tolerated_percent=None,
    )


def _watermark(entity: Entity) -> Check:
    names = ", ".join(f"'{endpoint.name}'" for endpoint in entity.lists)
    return Check(
        name="watermark",
        expected=f"Something changed in Pipedrive within {_QUIET_DAYS} days, and nothing in the future.",
        findings=f"""
            SELECT format('the newest change is of %s UTC', to_char(newest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')), 1
            FROM (SELECT max(value) AS newest FROM pipeboard.watermark WHERE name IN ({names})) AS watermark
            WHERE newest NOT BETWEEN now() - interval '{_QUIET_DAYS} days' AND now() + interval '1 hour'""",
        remedy="A quiet account is fine. If people did work, the key's user may no longer see it: `pipeboard doctor`.",
        tolerated_percent=None,
    )


def _summary_of_pipedrive(entity: Entity, table: str, masked: Collection[str]) -> Check:
    """Only right after a full sync, which asks Pipedrive; what changes afterwards is not in its answer."""
    if hidden := [name for name in ("status", "currency", entity.second_list_when) if name in masked]:
        return Check(
            name="summary",
            expected=f"Nothing: PIPEBOARD_MASK hides {', '.join(hidden)}, without which {entity.name} cannot be compared with "
            "what Pipedrive itself counts.",
            findings="SELECT '', 0 WHERE false",
            remedy="",
        )
    has_value = "value" not in masked
    worth = " worth %s" if has_value else "%s"
    return Check(
        name="summary",
        expected=f"By status and currency as many records{', and as much value,' if has_value else ''} as Pipedrive itself "
        f"counts (without archived ones{'' if has_value else '; PIPEBOARD_MASK hides what they are worth'}); compared after "
        "a full sync, where Pipedrive answers with its summary.",
        findings=f"""
            SELECT format('%s %s: %s{worth} here, %s{worth} in Pipedrive', status, currency, here, worth, there, value),
                   greatest(1, abs(here - there))
            FROM (SELECT facts -> 'summary' AS summary FROM pipeboard.load
                  WHERE entity = '{entity.name}' AND status = 'success' ORDER BY id DESC LIMIT 1) AS newest
            CROSS JOIN LATERAL (
                SELECT status, currency, coalesce(h.count, 0) AS here, {_value_of("h", has_value)} AS worth,
                       coalesce(p.count, 0) AS there, {_value_of("p", has_value)} AS value
                FROM (SELECT s.key AS status, c.key AS currency, (c.value ->> 'count')::bigint AS count,
                             (c.value ->> 'value')::numeric AS value
                      FROM jsonb_each(newest.summary) AS s, jsonb_each(s.value) AS c) AS p
                FULL JOIN
                     (SELECT status, currency, count(*) AS count, sum(value) AS value FROM {table}
                      WHERE deleted_at IS NULL AND NOT coalesce({entity.second_list_when}, false)
                        AND newest.summary ? status AND currency IS NOT NULL GROUP BY 1, 2) AS h
                USING (status, currency)) AS compared
            WHERE jsonb_typeof(newest.summary) = 'object' AND (here <> there OR coalesce(abs(worth - value) > 0.01, false))""",
        remedy="A few were changed while the sync ran: the next one brings them. More: `pipeboard sync --full`, and look "
        "whether the key's user sees everything: `pipeboard doctor`.",
        tolerated_percent=1,
    )


def _value_of(alias: str, is_known: bool) -> str:
    return f"coalesce({alias}.value, 0)" if is_known else "NULL::numeric"


def _custom_fields(name: str, table: str) -> Check:
    fields = f"""
        (SELECT label, c.name AS column_name FROM pipeboard.custom_field,
                jsonb_to_recordset(columns) AS c (name text)
         WHERE entity = '{name}' AND retired_at IS NULL AND base_name IS NOT NULL) AS field"""
    return Check(
        name="custom_fields",
        expected="Every custom field has its own columns in the table.",
        findings=f"""
            SELECT format('field "%s" has no column %s', label, column_name), 1 FROM {fields}
            WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{table}'::regclass
                              AND attname = column_name AND NOT attisdropped)
            UNION ALL
            SELECT format('column %s serves %s', column_name, string_agg(label, ', ')), 1 FROM {fields}
            GROUP BY column_name HAVING count(*) > 1""",
        remedy="Somebody dropped the column or changed pipeboard.custom_field: `pipeboard sync --full` brings the values back.",
    )
