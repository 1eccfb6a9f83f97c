"""What a booth takes as an update, one file for each kind: what its section of a document says, what a good one is, how it is
laid out on disk.

Root runs them (`agent.privileged.updating`). A further kind is one file here and one test.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from agent.updates.kind import Kind


def kinds(package: ModuleType | None = None) -> Mapping[str, Kind]:
    """Every kind that a module of `package` (this one, if none is given) declares as `KIND`, by its name: the section of an
    update document that it reads. Nothing lists them."""
    home = package or importlib.import_module(__name__)
    found = {}
    for file in sorted(file for folder in home.__path__ for file in Path(folder).glob("[a-z]*.py")):
        declaration = getattr(importlib.import_module(f"{home.__name__}.{file.stem}"), "KIND", None)
        if isinstance(declaration, Kind):
            found[declaration.name] = declaration
    return found
