"""Commands that look, and try a device out."""

from dataclasses import dataclass, field
from typing import Annotated, Final

from agent.contract.typed import Length
from agent.contract.words import Name
from agent.verbs.declaration import Asked, Controls, Limit, Result, Verb

_ONE_DEVICE_S: Final = 50.0  # with the wait for a check that is under way; a citizen waits for a minute at most


@dataclass(frozen=True)
class One:
    peripheral: Name


@dataclass(frozen=True)
class Some:
    """Without names, all of them."""

    peripherals: Annotated[list[Name], Length(64)] = field(default_factory=list)


async def _probe(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.probe(args.peripheral)


async def _self_test(args: Some, booth: Controls, asked: Asked) -> Result:
    return await booth.self_test(tuple(args.peripherals), asked.heard)


async def _test_print(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.test("test-print", args.peripheral)


async def _test_scan(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.test("test-scan", args.peripheral)


async def _test_camera(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.test("test-camera", args.peripheral)


VERBS: Final = (
    Verb("probe", "a fresh reading of one peripheral", One, _probe, deadline_s=60.0, cancellable=True, ability="probe"),
    Verb(
        "self-test", "probes all peripherals at once, using each for real, and reports each", Some, _self_test,
        deadline_s=120.0, cancellable=True, ability="probe",
    ),
    Verb(
        "test-print", "prints a page or a ticket; succeeds when the device says that it came out", One, _test_print,
        deadline_s=_ONE_DEVICE_S, idle_only=True, limit=Limit(20, 3600.0), ability="test-print",
    ),
    Verb(
        "test-scan", "a small scan: its size and mean luminance; the image is discarded", One, _test_scan,
        deadline_s=_ONE_DEVICE_S, idle_only=True, ability="test-scan",
    ),
    Verb(
        "test-camera", "some frames: neither black nor frozen; no image leaves the worker", One, _test_camera,
        deadline_s=_ONE_DEVICE_S, idle_only=True, ability="test-camera",
    ),
)  # fmt: skip
