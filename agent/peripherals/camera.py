"""The camera: on USB through V4L2, or on the ribbon connector (CSI) through libcamera's program.

Plugged or not is read from sysfs, at each kernel event. Whether it gives pictures is seen only by filming: a few
frames, in a worker's memory, when people are expected (a closed shop is dark), no citizen has the booth, and nobody else
has the camera.

A CSI camera has no single /dev/video node that could be filmed from: `device = "csi:0"` runs `rpicam-vid` (package
`rpicam-apps`, or `libcamera-vid`), which the agent's user may do as a member of the groups `video` and `render`.
The kernel looks for such a camera at boot only, so that it is missed by filming, not by an event.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Check, Pattern, Range
from agent.devices import usb
from agent.devices.camera_light import CameraLight
from agent.devices.frames import WANTED
from agent.devices.workers import WorkerFailed
from agent.peripherals.camera_trial import try_camera
from agent.peripherals.declaration import LOCAL, Peripheral, Signals, Test, act
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Identity, Observed, Reading, Unreadable, UnreadableCode
from agent.rules.ladder import Remedy

_V4L2: Final = re.compile("v4l2:(/dev/[A-Za-z0-9/._:+-]+)")
_CSI: Final = re.compile("csi:([0-9])")
_FILM_S: Final = 10.0  # for all frames: a camera in the dark may give five a second
_WORKER_S: Final = 15.0
_UNREADABLE: Final[Mapping[str, UnreadableCode]] = {"mute": "not-responding", "failed": "probe-failed"}
_QUIET_S: Final = 3600.0
_TROUBLED_S: Final = 60.0
_CONFIRMS_S: Final = 60.0  # after a first bad film: a hand before the lens is gone by then
_ABSENT_S: Final = 10.0
_MENDING_S: Final = 600.0  # so long after it was called black, somebody may be at the lens, and waits for the light to turn
_MENDED_S: Final = 2.0  # meanwhile: with the film itself, under the five seconds of contract §5
_NOT_MENDED_S: Final = 30.0  # later
_ENDING_S: Final = 60.0  # after a session, its browser may still be closing the camera
_PUT_OFF_S: Final = 15.0
_SETTLES_S: Final = 1.0  # after plugging in: udev sets the permission, and the camera starts up
_AGREEING: Final = 2  # films that have to show the same before it is believed
_UNCONFIRMED_S: Final = 3600.0  # a bad film is believed alone if no second one could be made for so long


def _device_problem(device: str) -> str | None:
    if _CSI.fullmatch(device) or (_V4L2.fullmatch(device) and ".." not in device):
        return None
    return f"write v4l2:/dev/video0, v4l2:/dev/v4l/by-id/… or csi:0 (here: {device})"


@dataclass(frozen=True)
class Options:
    """`csi_program`: what films a CSI camera, by default rpicam-vid or libcamera-vid. `indicator`: a LED below
    /sys/class/leds that is lit while the camera is open. A picture whose brightness (0–255) lies below
    `black_below` with a deviation below `even_below` is black."""

    device: Annotated[str, Check(_device_problem, "v4l2:/dev/… or csi:INDEX")] = field(metadata=LOCAL)
    csi_program: Annotated[str, Pattern("[A-Za-z0-9/._+-]+", "a program's name or whole path")] | None = field(
        default=None, metadata=LOCAL
    )
    indicator: Annotated[str, Pattern("[A-Za-z0-9_:-][A-Za-z0-9._:-]*", "the name of a LED below /sys/class/leds")] | None = None
    black_below: Annotated[float, Range(0, 255)] = 32.0
    even_below: Annotated[float, Range(0, 128)] = 8.0


def find(facts: Mapping[str, FactValue], options: Options) -> Iterable[Observed]:
    """What one film shows. While somebody else has the camera, what was believed of its pictures still stands."""
    if facts["busy"]:
        yield Observed("busy")
        for code in ("no-frames", "black", "frozen"):
            yield Observed(code, holds_only=True)
        return
    frames = _number(facts["frames"])
    if frames is not None and frames < WANTED:
        yield Observed("no-frames", {"frames": frames, "wanted": WANTED})
    bad = _picture(facts, options)
    if bad is not None:
        detail = {name: facts[name] for name in ("luma_mean", "luma_deviation", "distinct_frames")}
        yield Observed(bad, detail, certain=(_number(facts["bad_films"]) or 0) >= _AGREEING)


def _picture(facts: Mapping[str, FactValue], options: Options) -> Literal["black", "frozen"] | None:
    mean, deviation, distinct = (_number(facts[name]) for name in ("luma_mean", "luma_deviation", "distinct_frames"))
    if mean is not None and deviation is not None and mean < options.black_below and deviation < options.even_below:
        return "black"  # and then frames may well be equal
    return "frozen" if distinct is not None and distinct <= 1 else None


def _number(value: FactValue) -> float | None:
    return value if isinstance(value, int | float) else None


class CameraSource:
    """Looks at the plug at every event; films at the active checks, when it is plugged in, and again soon after a bad film."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._surroundings = surroundings
        self._signals = signals
        self._light = CameraLight(surroundings.files, options.indicator, surroundings.runtime_dir)
        node, csi = _V4L2.fullmatch(options.device), _CSI.fullmatch(options.device)
        self._path = node[1].lstrip("/") if node else None
        self._index = int(csi[1]) if csi else 0
        self._present = self._node() is not None
        self._arrived = False
        self._unplugged = False  # said last
        self._worked = False  # a good film was made since it appeared
        self._again_at_s: float | None = None  # loop time of the next film of a camera in trouble
        self._session_seen_s: float | None = None  # when one put a film off last
        self._black_since_s: float | None = None  # agreed on
        self._bad_films = 0
        self._last_bad: str | None = None
        self.busy = False  # when it was to be filmed last, as far as may be told
        self._unsubscribe = surroundings.on_usb(self._event)

    async def probe(self, *, active: bool) -> Reading | None:
        node = self._node()
        self._present = node is not None
        if node is None:
            self._unplugged = True
            return self._missed("not plugged in")
        due = self._again_at_s is not None and _now_s() >= self._again_at_s
        if not (active or due or self._arrived):
            return None
        if not self._surroundings.people_expected():
            return self._out_of_hours(node)
        if self._surroundings.session.held():
            return self._in_session(node)
        if self._arrived:
            await asyncio.sleep(_SETTLES_S)
        return await self._film(node)

    def interval_s(self) -> float:
        if not self._present:
            return _ABSENT_S
        if self._again_at_s is None and not self._arrived:
            return _QUIET_S
        if not self._surroundings.people_expected() and self._bad_films != 1:
            return _QUIET_S
        return _PUT_OFF_S if self._again_at_s is None else max(0.0, self._again_at_s - _now_s()) or _PUT_OFF_S

    async def close(self) -> None:
        self._unsubscribe()
        self._light.put_out()

    def closed(self) -> bool:
        """Whether the booth is: it is not filmed in the dark."""
        return not self._surroundings.people_expected()

    def shows(self, reading: Reading) -> list[str]:
        """The codes of what one reading shows, believed yet or not."""
        return [item.code for item in PERIPHERAL.findings_of(reading, self._options) if not item.holds_only]

    async def _film(self, node: str) -> Reading | None:
        with self._surroundings.session.taken() as ours:
            if not ours:
                return self._in_session(node)
            self._arrived = False
            try:
                self._light.light()
            except OSError as error:
                self._light.put_out()
                reason = f"the light {self._options.indicator} cannot be lit: {error.strerror or 'stays dark'}"
                return self._troubled(Unreadable("probe-failed", {"reason": reason}))
            open_still = False
            try:
                job, request = self._job()
                answer = await self._surroundings.workers.call(self._options.device, job, request, _WORKER_S, freed=self._freed)
            except WorkerFailed as error:
                open_still = error.code == "wedged"
                return self._troubled(Unreadable(error.code, error.detail))
            finally:
                if not open_still:
                    self._light.put_out()
        return self._reading(answer, self._identity(node, answer))

    def _in_session(self, node: str) -> Reading | None:
        self._session_seen_s = _now_s()
        return self._there(node) if self._unplugged else None

    def _out_of_hours(self, node: str) -> Reading | None:
        """A single bad film from before closing time was that of a shop getting dark: it is taken back."""
        doubtful, self._bad_films, self._last_bad = self._bad_films == 1, 0, None
        return self._there(node) if self._unplugged or doubtful else None

    def _there(self, node: str) -> Reading:
        """Plugged in, and not to be filmed yet."""
        self._unplugged = False
        self._signals.wake(active=True)
        facts: dict[str, FactValue] = {fact.name: None for fact in PERIPHERAL.facts}
        return Reading(facts | {"present": True}, self._identity(node, {}), untried=True)

    def _job(self) -> tuple[str, dict[str, Any]]:
        if self._path is not None:
            return "agent.devices.v4l2:film", {"path": str(self._surroundings.files.path(self._path)), "within_s": _FILM_S}
        return "agent.devices.csi:film", {"index": self._index, "program": self._options.csi_program, "within_s": _FILM_S}

    def _reading(self, answer: Mapping[str, Any], identity: Identity) -> Reading | None:
        outcome = answer["outcome"]
        if outcome == "busy" and self._session_seen_s is not None and _now_s() < self._session_seen_s + _ENDING_S:
            self._film_again(_PUT_OFF_S)
            return None  # it would tell when the session ended
        self.busy = outcome == "busy"
        if outcome == "gone":
            return self._missed(answer["reason"])
        if outcome in _UNREADABLE:
            return self._troubled(Unreadable(_UNREADABLE[outcome], {"reason": answer["reason"]}))
        names = ("frames", "luma_mean", "luma_deviation", "distinct_frames")
        facts: dict[str, FactValue] = {"present": True, "busy": outcome == "busy"} | {name: answer.get(name) for name in names}
        if outcome == "filmed":
            facts["bad_films"] = self._count(_picture(facts, self._options))
            self._worked |= not self._bad_films and answer["frames"] >= WANTED
        if self._black_since_s is not None:
            self._film_again(_MENDED_S if _now_s() < self._black_since_s + _MENDING_S else _NOT_MENDED_S)
        elif outcome == "filmed" and self._bad_films == 1:
            self._film_again(_CONFIRMS_S)
        elif outcome == "busy" or answer["frames"] < WANTED or self._bad_films:
            self._film_again(_TROUBLED_S)
        else:
            self._again_at_s = None
        self._unplugged = False
        return Reading(facts, identity, untried=outcome == "busy" and not self._worked)

    def _count(self, bad: str | None) -> int:
        """How many films in a row showed the same trouble."""
        self._bad_films = 0 if bad is None else self._bad_films + 1 if bad == self._last_bad else 1
        self._last_bad = bad
        if bad != "black":
            self._black_since_s = None
        elif self._bad_films >= _AGREEING and self._black_since_s is None:
            self._black_since_s = _now_s()
        return self._bad_films

    def _troubled(self, unreadable: Unreadable) -> Reading:
        self._unplugged = self._worked = False
        self._forget_films()
        self._film_again(_TROUBLED_S)
        return Reading(unreadable=unreadable)

    def _missed(self, reason: str) -> Reading:
        """Not there. As soon as it is, it is filmed; on the ribbon, only filming tells."""
        self._arrived = self._worked = False
        self._forget_films()
        self._film_again(_ABSENT_S if self._path is None else 0.0)
        detail = {"reason": reason} | ({"connector": "csi"} if self._path is None else {})
        return Reading(unreadable=Unreadable("no-device", detail))

    def _forget_films(self) -> None:
        self._bad_films, self._last_bad, self._black_since_s = 0, None, None

    def _film_again(self, in_s: float) -> None:
        self._again_at_s = _now_s() + in_s

    def _freed(self) -> None:
        """The kernel let a stuck worker go after all."""
        self._light.put_out()
        self._again_at_s = 0.0
        self._signals.wake()

    def _event(self, action: str, path: str) -> None:
        """Our node came or went; or something else did, and now ours is there or missing."""
        node = self._node()
        came = node is not None and (not self._present or (action == "add" and path.endswith(f"/video4linux/{node}")))
        if came or (node is None and self._present):
            self._present = self._arrived = came
            self._worked = self._worked and not came
            self._signals.wake(active=came)

    def _node(self) -> str | None:
        """The kernel's name of the video node, such as `video0`, while it is there; of a CSI camera always a name."""
        if self._path is None:
            return f"csi-{self._index}"
        node = self._surroundings.files.path(self._path).resolve().name
        return node if self._surroundings.files.path(f"sys/class/video4linux/{node}").is_dir() else None

    def _identity(self, node: str, answer: Mapping[str, Any]) -> Identity:
        files = self._surroundings.files
        place = files.path(f"sys/class/video4linux/{node}/device").resolve()
        behind = {place.name, *(folder.name for folder in place.parents)}
        # The hubs on the way are devices too: the longest name is the camera's own.
        device = max((item for item in usb.plugged(files) if item.path in behind), key=lambda item: len(item.path), default=None)
        if device is None:
            return Identity(node, product=answer.get("card"))
        return Identity(device.slot, device.vendor, device.product or answer.get("card"), device.serial)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


_STUCK: Final = frozenset({"not-responding", "no-frames", "frozen", "wedged"})
# One that another program has is not stuck: `busy` has no remedy but to wait. Its port's power is not cut: on a bare Raspberry Pi
# that takes the touch screen along.
_LADDER: Final = (
    Remedy("usb-reset", _STUCK, act("usb-reset"), settle_s=5.0, needs_usb=True),
    Remedy("usb-authorize", _STUCK, act("usb-authorize"), settle_s=5.0, needs_usb=True),
)

PERIPHERAL = Peripheral(
    kind="camera",
    noun=Text("la caméra", "the camera"),
    options=Options,
    facts=(
        Fact("present", "boolean", "the camera is plugged in; a CSI camera: libcamera knows it"),
        Fact("busy", "boolean", "another program has the camera; it is left to it"),
        Fact("frames", "integer", f"how many pictures came, of the {WANTED} that were waited for; null when not filmed"),
        Fact("luma_mean", "number", "mean brightness of the last ten, 0 to 255; null if not filmed, or compressed only"),
        Fact("luma_deviation", "number", "standard deviation of their brightness; null likewise"),
        Fact("distinct_frames", "integer", "how many of the last ten differ; null when not filmed"),
        Fact("bad_films", "integer", "how many films in a row were black, or frozen, this one included; null when not filmed"),
    ),
    findings=(
        FindingKind("busy", "info", "nobody", Text("La caméra est utilisée par un autre programme.", "Another program is using the camera.")),
        FindingKind(
            "not-responding", "fault", "auto",
            Text("La caméra ne répond pas : nouvel essai en cours.", "The camera does not answer: it is being tried again."),
        ),
        FindingKind(
            "no-frames", "fault", "auto",
            Text("La caméra ne donne pas d'image.", "The camera gives no picture."), part="camera",
        ),
        FindingKind(
            "black", "fault", "shopkeeper",
            Text("L'image de la caméra est noire : dégagez l'objectif.", "The camera's picture is black: uncover its lens."),
            raise_after_s=_UNCONFIRMED_S,
        ),
        FindingKind(
            "frozen", "fault", "auto",
            Text("L'image de la caméra est figée.", "The camera's picture is frozen."), part="camera",
            raise_after_s=_UNCONFIRMED_S,
        ),
    ),
    find=find,
    open=CameraSource,
    deadline_s=19.0,
    ladder=_LADDER,
    tests=(Test("test-camera", try_camera),),
)  # fmt: skip
