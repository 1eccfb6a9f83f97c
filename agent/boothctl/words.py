"""What is written on the command line: a booth, an area, an audience, a time."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args

from agent.contract.documents import LayerName
from agent.contract.topics import ALL, DOCUMENT_KINDS, PREFIX, Topic
from agent.contract.typed import Invalid, build
from agent.contract.words import Area, BoothId
from agent.documents.trust import Use

USES: Final[tuple[Use, ...]] = get_args(Use)
# What a booth calls its peripherals where nobody named one otherwise: by their kinds.
USUAL_NAMES: Final = (
    "audio", "board", "booth", "camera", "document-printer", "forms", "kiosk", "network", "receipt-printer", "scanner",
)  # fmt: skip


def area(text: str) -> str:
    return _of_type(Area, text)


def booth_id(text: str) -> str:
    return _of_type(BoothId, text)


def _of_type(type_: Any, text: str) -> str:
    # Part of a topic: a wildcard or a slash in it would ask for something else.
    try:
        return str(build(type_, text))
    except Invalid as error:
        raise argparse.ArgumentTypeError(error.problems[0].message) from error


def seconds(text: str) -> float:
    """How long something may take."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError("write a number of seconds, 0 or more")
    return value


def uses(text: str) -> list[Use]:
    names = text.split(",")
    if set(names) - set(USES):
        raise argparse.ArgumentTypeError(f"write some of {','.join(USES)}, with commas between them")
    return [use for use in USES if use in names]


@dataclass(frozen=True)
class Audience:
    """For whom a document is: one booth, an area or the fleet (`_all`)."""

    area: str
    booth: str

    @property
    def topic(self) -> str:
        return f"{PREFIX}/{self.area}/{self.booth}"

    @property
    def layer(self) -> LayerName:
        return "fleet" if self.area == ALL else "area" if self.booth == ALL else "booth"

    @property
    def booths(self) -> str:
        """A topic filter for the root of each booth that it reaches."""
        return f"{PREFIX}/{_each(self.area)}/{_each(self.booth)}"

    def places(self) -> Sequence[str]:
        """Where documents for these booths may stand, the least specific first."""
        return tuple(dict.fromkeys((f"{PREFIX}/{ALL}/{ALL}", f"{PREFIX}/{self.area}/{ALL}", self.topic)))

    def desired(self, kind: str) -> str:
        return f"{self.topic}/{kind}/desired"


def _each(name: str) -> str:
    return "+" if name == ALL else name


def audience(text: str) -> Audience:
    """`fleet`; an area, `61`; a booth whose id begins with its area, `61-0007`; any of them in full, `booth/v1/61/61-0007`."""
    if text == "fleet":
        return Audience(ALL, ALL)
    if "/" in text:
        topic = Topic.parse(f"{text}/{DOCUMENT_KINDS[0]}/desired")
        if topic is None or (topic.address.area == ALL and topic.address.booth != ALL):
            raise argparse.ArgumentTypeError(f"write {PREFIX}/AREA/BOOTH, {PREFIX}/AREA/{ALL} or {PREFIX}/{ALL}/{ALL}")
        return Audience(topic.address.area, topic.address.booth)
    if "-" in text:
        return Audience(area(text.partition("-")[0]), booth_id(text))
    return Audience(area(text), ALL)


def moment(text: str) -> str:
    """A time with its zone, as the contract writes times."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return timestamp(time)
    except (ValueError, OverflowError):  # OverflowError: no such year in UTC
        pass
    raise argparse.ArgumentTypeError("write a time with its zone, such as 2026-12-31T22:00:00Z")


def timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def revision(text: str) -> int | None:
    """A number, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("write a whole number, or auto")
    return int(text)
