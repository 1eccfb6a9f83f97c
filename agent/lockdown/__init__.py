"""One rule of a policy each: what may be written, which of two is looser, how it is applied, measured and taken away.

Root runs them (`agent.privileged`), from the operator's signed documents. A rule is one file here and one test.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from agent.lockdown.rule import Rule


def rules(package: ModuleType | None = None) -> Mapping[str, Rule]:
    """Every rule that a module of `package` (this one, if none is given) declares as `RULE`, by its name: the section of a
    policy that it reads. Nothing lists them."""
    home = package or importlib.import_module(__name__)
    found = {}
    for file in sorted(file for folder in home.__path__ for file in Path(folder).glob("[a-z]*.py")):
        declaration = getattr(importlib.import_module(f"{home.__name__}.{file.stem}"), "RULE", None)
        if isinstance(declaration, Rule):
            found[declaration.name] = declaration
    return found
