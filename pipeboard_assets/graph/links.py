"""Where the UI leads to from an asset: the file that declares it, and Metabase.

The file, not the function that made the asset: one loop makes all of them, and what is particular stands in the catalogue
or in a file of SQL. Paths, not addresses of a repository: a clone may come from anywhere.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from pipeboard_assets import bi
from pipeboard_resources.settings import Settings

_BI = Path(str(bi.__file__)).parent


def declared_by(record: type) -> Mapping[str, object]:
    """Metadata that leads to the module of a catalogue's record."""
    return _declared_in(Path(str(sys.modules[record.__module__].__file__)))


def selected_by(*names: str) -> Mapping[str, object]:
    """Metadata that leads to files of `bi`."""
    return _declared_in(*(_BI / name for name in names))


def _declared_in(*paths: Path) -> Mapping[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # marked so since 2024; nobody here can act on it
        files = [dg.LocalFileCodeReference(file_path=str(path), label=path.name) for path in paths]
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=list(files))}


def metabase(settings: Settings) -> Mapping[str, object]:
    """Metadata that leads to Metabase, where there is one."""
    return {} if settings.metabase_url is None else {"metabase": dg.MetadataValue.url(settings.metabase_url)}
