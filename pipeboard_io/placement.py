"""Where schemas lie: a program speaks of `crm` and `bi`, and a prefix puts them beside those of others in one database.

The warehouse places whatever it is given, declarations and SQL alike, so that nobody else has to know of the prefix.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property

from pipeboard_io.functions import Function
from pipeboard_io.load import Load
from pipeboard_io.table import Table
from pipeboard_io.traces import Trace
from pipeboard_io.views import View


@dataclass(frozen=True)
class Placement:
    """`schemas`: the names that the prefix goes before; any other name stays. Without a prefix nothing is changed."""

    prefix: str = ""
    schemas: tuple[str, ...] = ()

    def schema(self, name: str) -> str:
        """Where the schema lies."""
        return f"{self.prefix}{name}" if name in self.schemas else name

    def relation(self, name: str) -> str:
        """Where "schema.table" lies."""
        schema, dot, table = name.partition(".")
        return f"{self.schema(schema)}{dot}{table}"

    def sql(self, text: str) -> str:
        """SQL of a program's own: a schema before a dot, quoted or not, and a literal that is its name or a relation's.

        Other literals and comments stay; what stands between dollar signs is read as SQL.
        """
        return self._pattern.sub(self._placed, text) if self.prefix and self.schemas else text

    def table(self, table: Table) -> Table:
        """The declaration of the table where it lies."""
        return replace(table, schema=self.schema(table.schema))

    def view(self, view: View) -> View:
        """The same for a view: what it reads too, but no name or comment of a column, which may be anybody's words."""
        columns = tuple(replace(column, expression=self.sql(column.expression)) for column in view.columns)
        return replace(view, schema=self.schema(view.schema), body=self.sql(view.body), columns=columns)

    def load(self, load: Load) -> Load:
        """The same for a load, with what it reads, notes and traces."""
        scope = load.scope and replace(
            load.scope,
            tables=tuple(map(self.relation, load.scope.tables)),
            keys=load.scope.keys and self.sql(load.scope.keys),
            select=self.sql(load.scope.select),
        )
        select = load.select and self.sql(load.select)
        return replace(
            load,
            table=self.table(load.table),
            select=select,
            scope=scope,
            trace=load.trace and self._trace(load.trace),
            versions=load.versions and replace(load.versions, schema=self.schema(load.versions.schema)),
        )

    def function(self, function: Function) -> Function:
        """The same for a function."""
        schema, returns = self.schema(function.schema), self.sql(function.returns)
        return replace(function, schema=schema, returns=returns, body=self.sql(function.body))

    def _trace(self, trace: Trace) -> Trace:
        return replace(trace, schema=self.schema(trace.schema))

    def _placed(self, found: re.Match[str]) -> str:
        if found.lastgroup is None:
            return found[0]
        start = found.start(found.lastgroup) - found.start()
        return f"{found[0][:start]}{self.prefix}{found[0][start:]}"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Matches a schema as a group; what a schema must not be looked for in is matched whole, without one."""
        names = "|".join(map(re.escape, self.schemas))
        return re.compile(
            rf"""
              --[^\n]* | /\*(?s:.*?)\*/
            | '"?(?P<literal>{names})"? (?:\.(?:[\w${{}}]+ | "[^"']+"))? '(?!')
            | (?<![\w$])[eE]'(?:[^'\\] | \\(?s:.) | '')*' | '(?:[^'] | '')*'
            | "(?P<quoted>{names})" (?=\s*\.\s*[\w"{{])
            | (?<![\w$])(?P<bare>(?i:{names})) (?=\s*\.\s*[\w"{{])
            | \.\s*(?:[\w$]+ | "(?:[^"] | "")*")
            | "(?:[^"] | "")*"
            """,
            re.VERBOSE,
        )
