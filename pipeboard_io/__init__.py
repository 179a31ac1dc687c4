"""Frames into PostgreSQL: schema evolution, exact text, unchanged rows untouched, one atomic publish per load.

Knows polars and PostgreSQL, nothing of where the frames come from. Dagster is met in `io_manager` only, which is why
this module does not import it.
"""

from pipeboard_io.dictionary import Budget, ColumnAssignment, FieldColumns, SourceField
from pipeboard_io.errors import (
    ArchiveError,
    AuthenticationError,
    ConstraintError,
    DatabaseMissingError,
    DatabaseUnavailableError,
    DatabaseUrlError,
    DumpError,
    FrameError,
    LoadError,
    MassDeleteError,
    PrivilegeError,
    ResourceError,
    RestoreError,
    ResumeError,
    SchemaDriftError,
    StatementTimeoutError,
    StateVersionError,
    TableBlockedError,
    WarehouseError,
)
from pipeboard_io.load import Batch, Load, LoadReport, Reconcile, Reject, Scope, Touch
from pipeboard_io.placement import Placement
from pipeboard_io.table import Column, ColumnType, Table
from pipeboard_io.traces import Trace
from pipeboard_io.views import View, ViewColumn, ViewReport, ViewStatus
from pipeboard_io.warehouse import Warehouse

__all__ = [
    "ArchiveError",
    "AuthenticationError",
    "Batch",
    "Budget",
    "Column",
    "ColumnAssignment",
    "ColumnType",
    "ConstraintError",
    "DatabaseMissingError",
    "DatabaseUnavailableError",
    "DatabaseUrlError",
    "DumpError",
    "FieldColumns",
    "FrameError",
    "Load",
    "LoadError",
    "LoadReport",
    "MassDeleteError",
    "Placement",
    "PrivilegeError",
    "Reconcile",
    "Reject",
    "ResourceError",
    "RestoreError",
    "ResumeError",
    "SchemaDriftError",
    "Scope",
    "SourceField",
    "StateVersionError",
    "StatementTimeoutError",
    "Table",
    "TableBlockedError",
    "Touch",
    "Trace",
    "View",
    "ViewColumn",
    "ViewReport",
    "ViewStatus",
    "Warehouse",
    "WarehouseError",
]
