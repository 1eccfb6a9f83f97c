"""A USB stick in a public booth: nobody mounts it, and the operator is told."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.contract.event import EventClass

_AGAIN_S: Final = 60.0  # the same port: whoever plugs and unplugs all day is told once a minute


class Strangers:
    """`storage_at(devpath)` describes the disk behind a kernel event, None for anything else; `record` takes the event."""

    def __init__(
        self,
        storage_at: Callable[[str], Mapping[str, Any] | None],
        record: Callable[[EventClass, str, dict[str, Any]], None],
        mono_s: Callable[[], float],
    ) -> None:
        self._storage_at = storage_at
        self._record = record
        self._mono_s = mono_s
        self._told_s: dict[str, float] = {}

    def plugged(self, action: str, subsystem: str, devpath: str) -> None:
        """A kernel event. The kernel and udev announce each arrival: it is told once."""
        if action != "add" or subsystem != "usb":
            return
        storage = self._storage_at(devpath)
        if storage is None:
            return
        now_s, slot = self._mono_s(), str(storage.get("slot"))
        self._told_s = {key: told_s for key, told_s in self._told_s.items() if now_s - told_s < _AGAIN_S}
        if slot not in self._told_s:
            self._told_s[slot] = now_s
            self._record("security", "usb-storage", dict(storage))
