"""Sound: the microphone and the loudspeaker of a conversation. There, not muted, not taken by another program?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Annotated, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Length, Pattern, Range
from agent.contract.words import printable
from agent.devices import alsa
from agent.devices.workers import WorkerFailed
from agent.peripherals.declaration import LOCAL, Peripheral, Signals
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Identity, Observed, Reading, Unreadable

_AMIXER_S: Final = 5.0  # it answers in 10 ms, or never
_MENDING_S: Final = (
    600.0  # so long after something went missing or was muted, somebody may be at it, and waits for the light to turn
)
_MENDED_S: Final = 3.0  # between looks and questions meanwhile: nothing announces that it is no longer muted
_NOT_MENDED_S: Final = 30.0  # later
_TROUBLED_S: Final = 120.0  # between questions to a mixer that failed
_USED_S: Final = 20.0  # between looks at a device that is in use
_TAKEN_AFTER_S: Final = 60.0  # in use for so long, and no citizen there

_CardName = Annotated[str | None, Pattern("[A-Za-z0-9_-]{1,15}", "a card's short name or number from /proc/asound/cards")]
_ControlName = Annotated[str | None, Length(64)]


@dataclass(frozen=True)
class Options:
    """`microphone`, `speaker`: which of the two this booth needs. `card`: where both are, `microphone_card` and
    `speaker_card` where one alone is; without any, each card that can do it will do.

    `microphone_control`, `speaker_control`: the one mixer control that tells whether it is muted, where the common
    ones mislead.
    """

    microphone: bool = True
    speaker: bool = True
    card: _CardName = None
    microphone_card: _CardName = None
    speaker_card: _CardName = None
    microphone_control: _ControlName = None
    speaker_control: _ControlName = None
    amixer: Annotated[str, Pattern("(/.+/)?amixer", "amixer, or the whole path of a program of that name")] = field(
        default="amixer", metadata=LOCAL
    )
    interval_s: Annotated[float, Range(10, 3600)] = 300.0


def find(facts: Mapping[str, FactValue], _options: Options) -> Iterable[Observed]:
    """Taken by another program is a warning: it may let go when the browser asks."""
    for part in ("microphone", "speaker"):
        word = facts[part]
        if word not in (None, "ok"):
            yield Observed(f"no-{part}", {"reason": word}, severity="warning" if word == "taken" else None)


class AudioSource:
    """Reads the kernel's files at events and intervals; asks the mixer at active checks, and again while it has trouble."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._files = surroundings.files
        self._session = surroundings.session
        self._people_expected = surroundings.people_expected
        self._workers = surroundings.workers
        self._signals = signals
        microphone = _Part("microphone", "capture", options.microphone_card or options.card, options.microphone_control)
        speaker = _Part("speaker", "playback", options.speaker_card or options.card, options.speaker_control)
        self._parts = [part for part, needed in ((microphone, options.microphone), (speaker, options.speaker)) if needed]
        self._owed = True  # the mixer has to be asked, and could not be yet
        self._wrong: tuple[str | None, ...] = ()  # what each part lacks
        self._wrong_since_s = 0.0
        self._said_missing = False
        self._unsubscribe = surroundings.on_usb(self._kernel_event)

    async def probe(self, *, active: bool) -> Reading | None:
        self._look()
        missing = [part for part in self._parts if part.card is None]
        if missing and len(missing) == len(self._parts):
            self._note(missing)
            return Reading(unreadable=Unreadable("no-device", {"reason": self._what_is_missing()}))
        if active or self._owed or any(part.muted for part in self._parts):
            with self._session.taken() as ours:
                if ours:
                    try:
                        await self._ask_mixers()
                    except WorkerFailed as error:
                        self._owed, self._wrong, self._said_missing = True, (), False
                        return Reading(unreadable=Unreadable(error.code, error.detail))
                else:
                    self._owed |= active
        was_missing = self._said_missing
        self._note(missing)
        if not self._owed or missing:
            return self._reading()
        if not was_missing:
            return None  # a citizen is there: what may be muted is not called well
        self._signals.wake(active=True)
        return replace(self._reading(), untried=True)  # but that it is back is said

    def interval_s(self) -> float:
        """Soon while somebody may be mending it; slowly when nobody is expected to."""
        if not self._people_expected():
            return self._options.interval_s
        if any(self._wrong):
            mending = monotonic() - self._wrong_since_s < _MENDING_S
            return min(_MENDED_S if mending else _NOT_MENDED_S, self._options.interval_s)
        if any(part.used_since_s is not None for part in self._parts):
            return _USED_S
        return min(_TROUBLED_S, self._options.interval_s) if self._owed else self._options.interval_s

    async def close(self) -> None:
        self._unsubscribe()

    def _kernel_event(self, action: str, path: str) -> None:
        """A card that came has the mixer that its driver, and then alsactl, gave it."""
        if "/sound/" in path:
            self._signals.wake(active=action == "change" or (action == "add" and "/controlC" in path))

    def _look(self) -> None:
        cards = alsa.cards(self._files)
        for part in self._parts:
            able = (card for card in cards if part.wants(card) and alsa.can(self._files, card, part.direction))
            card = next(able, None)
            if card != part.card:
                part.card, part.muted, part.used_since_s, part.taken = card, None, None, False
                self._owed = True
        now_s = monotonic()
        with self._session.taken() as ours:
            for part in self._parts:
                if not ours:
                    # The citizen's browser uses it now; that it does is nobody's business, so `taken` stays as it was.
                    part.used_since_s = None
                elif part.card is not None:
                    part.note_use(alsa.runs(self._files, part.card, part.direction), now_s)

    async def _ask_mixers(self) -> None:
        """Raises WorkerFailed."""
        answers: dict[int, list[alsa.Control]] = {}
        for part in self._parts:
            if part.card is None:
                continue
            number = part.card.index
            if number not in answers:
                answers[number] = await self._ask_mixer(number)
            part.muted = alsa.muted(answers[number], part.direction, part.control)
        self._owed = False

    async def _ask_mixer(self, number: int) -> list[alsa.Control]:
        answer = await self._workers.call(
            f"alsa-{number}",
            "agent.devices.alsa:mixer",
            {"program": self._options.amixer, "card": number},
            _AMIXER_S,
            freed=lambda: self._signals.wake(active=True),
        )
        if "problem" in answer:
            raise WorkerFailed("probe-failed", {"reason": printable(str(answer["problem"]))})
        return [alsa.Control(**control) for control in answer["controls"]]

    def _note(self, missing: "list[_Part]") -> None:
        """Another trouble begins its own ten minutes."""
        self._said_missing = bool(missing)
        wrong = tuple(word if (word := part.word()) in ("absent", "muted") else None for part in self._parts)
        if wrong != self._wrong:
            self._wrong, self._wrong_since_s = wrong, monotonic()

    def _what_is_missing(self) -> str:
        names = sorted({part.wanted for part in self._parts if part.wanted is not None})
        return f"no sound card {' or '.join(names)}" if names else "no sound card"

    def _reading(self) -> Reading:
        facts: dict[str, FactValue] = {}
        for part in self._parts:
            facts[part.name] = part.word()
            facts[f"{part.name}_card"] = None if part.card is None else part.card.name
        names = {part.card.name for part in self._parts if part.card is not None}
        return Reading(facts, Identity(product=printable(" + ".join(sorted(names)))) if names else Identity())


class _Part:
    """The microphone or the loudspeaker: what is known of it."""

    def __init__(self, name: str, direction: alsa.Direction, wanted: str | None, control: str | None) -> None:
        self.name = name
        self.direction = direction
        self.wanted = wanted
        self.control = control
        self.card: alsa.Card | None = None
        self.muted: bool | None = None  # None: the mixer was not asked
        self.taken = False
        self.used_since_s: float | None = None

    def wants(self, card: alsa.Card) -> bool:
        return self.wanted in (None, card.id, str(card.index))

    def note_use(self, used: bool, now_s: float) -> None:
        """Outside a session. A moment's use is a session's last, or a test tone."""
        if not used:
            self.used_since_s = None
        elif self.used_since_s is None:
            self.used_since_s = now_s
        self.taken = self.used_since_s is not None and (self.taken or now_s - self.used_since_s >= _TAKEN_AFTER_S)

    def word(self) -> str | None:
        if self.card is None:
            return "absent"
        if self.muted is None:
            return None
        if self.muted:
            return "muted"
        return "taken" if self.taken else "ok"


PERIPHERAL = Peripheral(
    kind="audio",
    noun=Text("l'équipement audio", "the audio equipment"),
    options=Options,
    facts=(
        Fact("microphone", "string", "ok, absent, muted or taken (in use for a minute outside a session); null where none is needed"),
        Fact("microphone_card", "string", "the sound card that records"),
        Fact("speaker", "string", "ok, absent, muted or taken (in use for a minute outside a session); null where none is needed"),
        Fact("speaker_card", "string", "the sound card that plays"),
    ),
    findings=(
        FindingKind(
            "not-responding", "fault", "auto",
            Text("L'équipement audio ne répond pas : nouvel essai en cours.", "The audio equipment does not answer: it is being tried again."),
        ),
        FindingKind(
            "no-microphone", "fault", "shopkeeper",
            Text("Micro absent ou coupé : vérifiez sa prise et son bouton.", "No microphone, or muted: check its plug and its button."),
            raise_after_s=0.5,  # a card that was just plugged in is muted until its settings are restored
        ),
        FindingKind(
            "no-speaker", "fault", "shopkeeper",
            Text("Haut-parleur absent ou coupé : vérifiez sa prise et le volume.", "No loudspeaker, or muted: check its plug and volume."),
            raise_after_s=0.5,
        ),
    ),
    find=find,
    open=AudioSource,
    deadline_s=15.0,
)  # fmt: skip
