"""The forms cache of a simulated booth: the forms that ship, laid out by the kind of update that does it on a booth."""

from pathlib import Path
from typing import Final

from agent.contract.forms import catalogue_in
from agent.simulator.operator import PROVISIONING
from agent.updates.forms import KIND

SHIPPED: Final = PROVISIONING / "forms"


class FormsCache:
    """`lay` the forms, `lose` one; `current` is for the option `device`."""

    def __init__(self, folder: Path) -> None:
        self._slots = folder / "slots"
        self.current = folder / "current"

    def lay(self) -> None:
        """As an update does it: into the slot that is not in use, which then is."""
        name = "b" if self.current.is_symlink() and self.current.readlink().name == "a" else "a"
        slot = self._slots / name
        slot.mkdir(parents=True, exist_ok=True)
        KIND.lay(SHIPPED, slot, slot, "")
        fresh = self.current.with_name("current.new")
        fresh.symlink_to(f"slots/{name}")
        fresh.rename(self.current)

    def lose(self) -> None:
        """The file of the first form is gone."""
        first = catalogue_in(self.current).forms[0]
        (self.current / first.file).unlink(missing_ok=True)
