"""`pipeboard backup` and `pipeboard restore`: our schemas as one file, and a restore that proves itself.

Dagster's history of runs is not in it: it fills itself again, and unfinished runs would come back as if they went on.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.schemas import placement_of, schemas_of
from pipeboard_assets.commands.console import say
from pipeboard_assets.commands.environment import servers
from pipeboard_assets.graph.checks import entity_checks, main_bi_checks, verdicts
from pipeboard_io import RestoreError, StateVersionError, Warehouse, archive, dumping
from pipeboard_io.archive import Manifest
from pipeboard_io.snapshot import Snapshot
from pipeboard_io.state import HEAD
from pipeboard_resources.embedded.postgres_clients import find_client
from pipeboard_resources.settings import Settings

_SHOWN = 5
_EXISTING = "SELECT nspname AS name FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s) ORDER BY 1"
_SERVER = "SELECT current_setting('server_version_num')::int / 10000 AS major"


def backup(settings: Settings, file: Path) -> int:
    """Write the file; a sync may go on beside it. Raises WarehouseError or BinariesNotFoundError, and leaves no file."""
    with servers(settings, say) as ready:
        url = _url(ready)
        warehouse = Warehouse(url, placement=placement_of(settings))
        warehouse.migrate()
        with warehouse.snapshot(schemas_of(settings)) as snapshot:
            server = _server(snapshot)
            program = find_client("pg_dump", oldest_major=server)
            schemas = [row["name"] for row in snapshot.query(_EXISTING, [schemas_of(settings)])]
            tables = snapshot.contents(schemas)
            manifest = Manifest(
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                release=version("pipeboard"),
                server=server,
                client=program.major,
                state_version=HEAD,
                schemas=schemas,
                tables=tables,
                findings=_findings(warehouse, snapshot, tables),
            )
            archive.write(
                file,
                manifest,
                lambda sink: dumping.dump(program.path, url, schemas=schemas, snapshot=snapshot, sink=sink),
            )
    say(f"{file}: {_told(manifest)}, {file.stat().st_size / 1e6:,.1f} MB. Keep it as safe as the database itself.")
    return 0


def restore(settings: Settings, file: Path) -> int:
    """Put the file into an empty database. Raises WarehouseError or BinariesNotFoundError; unless the proof itself
    failed, nothing was restored then."""
    manifest = archive.read_manifest(file)
    if manifest.state_version > HEAD:
        raise StateVersionError(
            f"{file} was made by release {manifest.release} with state version {manifest.state_version}, and this release "
            f"knows {HEAD}: upgrade this program"
        )
    if (state := placement_of(settings).schema("pipeboard")) not in manifest.schemas:
        raise RestoreError(
            f"{file} holds the schemas {', '.join(manifest.schemas)}, and not {state}: set PIPEBOARD_ACCOUNT to the company "
            "that it was made of"
        )
    with servers(settings, say) as ready:
        url = _url(ready)
        warehouse = Warehouse(url, placement=placement_of(settings))
        with warehouse.snapshot() as snapshot:
            server = _server(snapshot)
        if server < manifest.server:
            raise RestoreError(
                f"{file} was made of PostgreSQL {manifest.server}, and this server is {server}: restore it into "
                f"{manifest.server} or newer"
            )
        program = find_client("pg_restore", oldest_major=max(server, manifest.client))
        with warehouse.vacant(manifest.schemas), archive.opened_dump(file) as source:
            dumping.restore(program.path, url, schemas=manifest.schemas, source=source)
        _prove(warehouse, manifest)
        warehouse.migrate()
    say(
        f"Restored and proved: {_told(manifest)}, of {manifest.made_at}. `pipeboard sync --full` brings it up to today."
    )
    return 0


def _prove(warehouse: Warehouse, manifest: Manifest) -> None:
    """Every table holds what it held, and every check finds what it found. Raises RestoreError.

    Another release's checks are others, and may ask for what these tables do not have yet: of its backups the tables tell.
    """
    with warehouse.snapshot() as snapshot:
        tables = snapshot.contents(manifest.schemas)
        differing = _differing(manifest.tables, tables)
        if not differing and manifest.release == version("pipeboard"):
            differing = _differing(manifest.findings, _findings(warehouse, snapshot, tables))
    if differing:
        raise RestoreError(
            f"What was restored is not what was saved: {'; '.join(differing[:_SHOWN])}. Do not use these tables: drop the "
            f"schemas {', '.join(manifest.schemas)} and restore another copy"
        )


def _differing(saved: Mapping[str, object], restored: Mapping[str, object]) -> Sequence[str]:
    return [
        f"{name}: {saved.get(name, 'nothing')} was saved, {restored.get(name, 'nothing')} is there"
        for name in sorted({*saved, *restored})
        if saved.get(name) != restored.get(name)
    ]


def _findings(warehouse: Warehouse, snapshot: Snapshot, tables: Collection[str]) -> dict[str, int]:
    """What the checks of every table find, by "schema.table check"; without those that depend on today's date too, which
    are never an error."""
    where = warehouse.placement
    there = frozenset(entity.name for entity in CATALOG if where.relation(f"pipedrive.{entity.name}") in tables)
    checks = {f"pipedrive.{entity.name}": entity_checks(entity, there) for entity in CATALOG if entity.name in there}
    if where.relation(str(MAIN_BI)) in tables:
        checks[str(MAIN_BI)] = main_bi_checks()
    return {
        f"{table} {verdict.check.name}": verdict.found
        for table, declared in checks.items()
        for verdict in verdicts(snapshot, table, [check for check in declared if check.tolerated_percent is not None])
    }


def _server(snapshot: Snapshot) -> int:
    """PostgreSQL's major version."""
    return int(snapshot.query(_SERVER)[0]["major"])


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def _told(manifest: Manifest) -> str:
    return f"{len(manifest.tables)} tables, {sum(content.rows for content in manifest.tables.values()):,} rows"
