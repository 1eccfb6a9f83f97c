"""What one kind of update declares. Each has two slots, `a` and `b`, and a link `current` to the one that counts: the other one
is laid out while this one is in use, and a switch is the renaming of one link."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.contract.update import Artifact


class NotGood(Exception):
    """What was fetched is not what a booth can use. `reason`: a word in kebab-case, which is published; the message is for
    people.

    Words in use: `bad-archive` `wrong-architecture` `wrong-python` `wrong-version` `base-too-old` `disk-full` `selftest-failed`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Kind:
    """`name`: the section of an update document. `section`: a frozen dataclass for `contract.typed`, with a `window`.

    `artifact(section, architecture)`: the file that a booth of an architecture fetches; None where the section has none for it.
    `version(section)`: what it is called in reports.
    `place`: the folder of the slots, from the root down, without the first slash.
    `lay(files, slot, place, version)`: make the empty folder `slot` what it should be, from the archive's unpacked `files`, which
    must be of that version; `place` is where the slot will be found on the booth (the two differ below another root). Raises
    `NotGood`, OSError.
    `check(slot, config)`: whether what was laid out works on this booth, with its `config` (`/etc/booth-agent`). Raises
    `NotGood`, OSError. It is asked again right before the switch.
    `on_trial`: after the switch the agent starts anew, and has to prove itself; else it counts at once.
    `older(before, after)`: whether version `after` is a step back, which takes the signatures of `loosen`.
    `mode`: of the slots' folders; who may read them.
    """

    name: str
    section: type[Any]
    artifact: Callable[[Any, str], Artifact | None]
    version: Callable[[Any], str]
    place: str
    lay: Callable[[Path, Path, Path, str], None]
    check: Callable[[Path, Path], None]
    on_trial: bool
    older: Callable[[str, str], bool]
    mode: int = 0o755
