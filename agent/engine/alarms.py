"""Alarms over time: raised and cleared, known to the broker, kept over a restart. Contract §5."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from agent.contract import alarm as contract_alarm
from agent.contract.decode import encode
from agent.contract.typed import plain
from agent.engine.memory import Remembered
from agent.engine.publish import Publisher
from agent.rules.alarms import Alarm, AlarmKey, Step, due_in_s, track
from agent.rules.health import Finding, Now


class Keeper(Protocol):
    """Where it is kept."""

    def save(self, key: str, value: Any) -> None: ...


class Alarms:
    """`told`: called when the broker has one that it had not. `due`: called when one that waits is to be raised."""

    def __init__(
        self,
        publisher: Publisher,
        keeper: Keeper,
        topic: Callable[[str, str], str],
        payload: Callable[[Alarm], contract_alarm.Alarm],
        told: Callable[[], None],
        due: Callable[[], None],
    ) -> None:
        """`topic` of a peripheral's code."""
        self._publisher = publisher
        self._keeper = keeper
        self._topic = topic
        self._payload = payload
        self._told = told
        self._due = due
        self._alarms: dict[AlarmKey, Alarm] = {}
        self._clearing: set[AlarmKey] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def all(self) -> Collection[Alarm]:
        """Those that are raised, and those that wait to be."""
        return self._alarms.values()

    def remember(self, remembered: Remembered, now_s: float, known: Callable[[Alarm], bool]) -> None:
        """What was raised before the restart. One that is not `known` any more nobody else would ever clear."""
        for peripheral, code in remembered.clearing:
            self._say(Step("cleared", Alarm(peripheral, code, "warning", "nobody", "", now_s)))
        for alarm in remembered.alarms_at(now_s):
            if known(alarm):
                self._alarms[alarm.key] = alarm
                self._say(Step("raised", alarm))
            else:
                self._say(Step("cleared", alarm))

    def follow(self, standing: Mapping[AlarmKey, Finding], unknown: Collection[str], after_s: float, now: Now) -> None:
        """What is found by now. An `unknown` peripheral keeps its alarms: not seeing a fault is not its being gone."""
        before = self._alarms
        held = {key: alarm for key, alarm in before.items() if key[0] in unknown}
        free = {key: alarm for key, alarm in before.items() if key[0] not in unknown}
        followed, steps = track(free, standing, after_s, now)
        self._alarms = held | followed
        for step in steps:
            self._say(step)
        if steps or _raised(before) != _raised(self._alarms):
            self._save()
        self.close()
        due_s = due_in_s(followed, after_s, now)
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_later(due_s + 0.01, self._due)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_raised(self, key: AlarmKey) -> bool:
        """Whether a technician was to hear of it."""
        return key in self._alarms and self._alarms[key].raised

    def is_told(self, key: AlarmKey) -> bool:
        """Whether the broker has it, so that a technician can know of it."""
        return self.is_raised(key) and self._alarms[key].acknowledged

    def say_again(self, peripheral: str) -> None:
        """Something else that its alarms tell is another."""
        for alarm in self._alarms.values():
            if alarm.peripheral == peripheral and alarm.raised:
                self._say(Step("changed", alarm))

    def _say(self, step: Step) -> None:
        alarm = step.alarm
        topic = self._topic(alarm.peripheral, alarm.code)
        if step.what == "cleared":
            self._clearing.add(alarm.key)  # until the broker knows, over a restart too: it would keep the old alarm
            self._publisher.retain("alarm", topic, b"", lambda: self._cleared(alarm.key))
            return
        self._clearing.discard(alarm.key)
        self._publisher.retain("alarm", topic, encode(plain(self._payload(alarm))), lambda: self._acknowledged(alarm.key))

    def _acknowledged(self, key: AlarmKey) -> None:
        """The broker has the alarm: a technician can know, so the light may say so."""
        alarm = self._alarms.get(key)
        if alarm is not None and alarm.raised and not alarm.acknowledged:
            self._alarms[key] = replace(alarm, acknowledged=True)
            self._save()
            self._told()

    def _cleared(self, key: AlarmKey) -> None:
        self._clearing.discard(key)
        self._save()

    def _save(self) -> None:
        self._keeper.save("alarms", Remembered.of_alarms(self._alarms.values()))
        self._keeper.save("clearing", [list(key) for key in sorted(self._clearing)])


def _raised(alarms: Mapping[AlarmKey, Alarm]) -> set[AlarmKey]:
    return {key for key, alarm in alarms.items() if alarm.raised}
