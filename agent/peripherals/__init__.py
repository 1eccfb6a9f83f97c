"""One declaration each: what a peripheral measures, what can be wrong with it, and who fixes it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from agent.peripherals.declaration import Peripheral


def declared(package: ModuleType | None = None) -> Mapping[str, Peripheral]:
    """Every kind that a module of `package` (this one, if none is given) declares as `PERIPHERAL`, by its name.

    So a new peripheral is one file: nothing lists them.
    """
    home = package or importlib.import_module(__name__)
    kinds = {}
    # Not by pkgutil, which brings zipimport and zlib into the daemon.
    for file in sorted(file for folder in home.__path__ for file in Path(folder).glob("[a-z]*.py")):
        module = importlib.import_module(f"{home.__name__}.{file.stem}")
        declaration = getattr(module, "PERIPHERAL", None)
        if isinstance(declaration, Peripheral):
            kinds[declaration.kind] = declaration
    return kinds
