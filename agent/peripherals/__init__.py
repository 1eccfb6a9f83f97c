"""One declaration each: what a peripheral measures, what can be wrong with it, and who fixes it."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

from agent.peripherals.declaration import Peripheral


def declared(package: ModuleType | None = None) -> Mapping[str, Peripheral]:
    """Every kind that a module of `package` (this one, if none is given) declares as `PERIPHERAL`, by its name.

    So a new peripheral is one file: nothing lists them.
    """
    home = package or importlib.import_module(__name__)
    kinds = {}
    for module_info in pkgutil.iter_modules(home.__path__):
        module = importlib.import_module(f"{home.__name__}.{module_info.name}")
        declaration = getattr(module, "PERIPHERAL", None)
        if isinstance(declaration, Peripheral):
            kinds[declaration.kind] = declaration
    return kinds
