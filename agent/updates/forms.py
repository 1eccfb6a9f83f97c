"""The forms that a booth prints without the Internet: a catalogue and its PDFs, replaced as a whole."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract.forms import CATALOGUE, Catalogue, catalogue_in, folder_problems
from agent.contract.typed import Invalid
from agent.contract.update import Artifact, Window
from agent.updates.kind import Kind, NotGood

_ROOTS_OWN: Final = ("release.json",)  # where root notes what a slot holds


@dataclass(frozen=True)
class FormsSection:
    """`catalogue`: the archive that `boothctl forms pack` makes."""

    catalogue: Artifact
    window: Window | None = None


def good_catalogue(folder: Path, besides: Collection[str] = ()) -> Catalogue:
    """The catalogue of a folder that keeps to it in every file; `besides` may lie there too. Raises `NotGood` with every problem,
    OSError."""
    try:
        catalogue = catalogue_in(folder)
    except FileNotFoundError as error:
        raise NotGood("bad-archive", f"{CATALOGUE}: it is missing") from error
    except Invalid as error:
        raise NotGood("bad-archive", f"{CATALOGUE}: {error}") from error
    problems = folder_problems(folder, catalogue, besides)
    if problems:
        raise NotGood("bad-archive", str(Invalid(problems)))
    return catalogue


def lay(files: Path, slot: Path, _place: Path, _version: str) -> None:
    """Copied only once all of it is good. Everybody may read it, and nobody but root write."""
    good_catalogue(files)
    for file in sorted(files.iterdir()):
        target = slot / file.name
        shutil.copyfile(file, target, follow_symlinks=False)
        target.chmod(0o644)
    slot.chmod(0o755)


def check(slot: Path, _config: Path) -> None:
    good_catalogue(slot, _ROOTS_OWN)


def _artifact(section: FormsSection, _architecture: str) -> Artifact:
    return section.catalogue


def _version(section: FormsSection) -> str:
    return section.catalogue.sha256[:12]


def _older(_before: str, _after: str) -> bool:
    """No two catalogues are one older than the other: that no old document comes back is the ratchet of revisions' work."""
    return False


KIND = Kind(
    name="forms",
    section=FormsSection,
    artifact=_artifact,
    version=_version,
    place="var/lib/booth-forms",
    lay=lay,
    check=check,
    on_trial=False,
    older=_older,
)
