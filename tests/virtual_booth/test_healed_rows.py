"""Every fault that a booth should heal was healed here, or stands in the table with the reason why not."""

from importlib import import_module
from pkgutil import walk_packages

import tests.virtual_booth as package
from tests.engine.healable import FAULTS
from tests.virtual_booth.healed import CLAIMED, NOT_PRODUCED


def test_each_row_is_claimed_by_a_test_or_has_its_reason_and_never_both() -> None:
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2].startswith("test_"):
            import_module(module.name)
    rows = {(fault.kind, fault.name) for fault in FAULTS}
    assert rows == CLAIMED.keys() | NOT_PRODUCED.keys()
    assert not CLAIMED.keys() & NOT_PRODUCED.keys()
    assert all(NOT_PRODUCED.values())
