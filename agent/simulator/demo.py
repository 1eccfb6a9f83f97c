"""`booth-agent demo`: a simulated booth and its agent, live on screen or as plain lines."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.contract.messages import Incoming
from agent.contract.typed import Invalid, Problem
from agent.rules.fleet import Fleet
from agent.simulator import script
from agent.simulator.booth import SimulatedBooth
from agent.simulator.screen import View, make_view
from agent.simulator.switches import ProfileName, Switch
from agent.system.broker import BrokerAddress, BrokerError, Dialer
from agent.system.mqtt import Handlers, Mqtt


def main(script_file: Path | None, for_s: float | None, profile: ProfileName, *, plain: bool, list_actions: bool) -> int:
    """Exit status 0 when it ended as asked, 1 when it could not run, 2 for a script that cannot be read."""
    logging.basicConfig(level=logging.ERROR)
    try:
        return asyncio.run(_run(script_file, for_s, profile, plain=plain, list_actions=list_actions))
    except Invalid as error:
        for problem in error.problems:
            print(f"{script_file}: {problem}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"booth-agent: {error.filename or 'demo'}: {error.strerror or error}", file=sys.stderr)
        return 2 if script_file is not None and error.filename == str(script_file) else 1
    except RuntimeError as error:
        print(f"booth-agent: {error}", file=sys.stderr)
        return 1


async def _run(script_file: Path | None, for_s: float | None, profile: ProfileName, *, plain: bool, list_actions: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="booth-demo-") as folder:
        booth = SimulatedBooth(Path(folder), profile=profile, governed=profile != "everything", operated=True)
        if list_actions:
            for switch in booth.switches:
                print(f"{switch.key}  {switch.breaks:18} {switch.repairs:18} {switch.kind or 'booth'}: {switch.meaning}")
            return 0
        names = [name for switch in booth.switches for name in (switch.breaks, switch.repairs)]
        steps = [] if script_file is None else script.parse(_text_of(script_file), names)
        demo = _Demo(booth, make_view(booth, plain=plain or not sys.stdout.isatty()))
        await demo.run(steps, for_s)
    return 0


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid([Problem("", f"byte {error.start} is not UTF-8 text")]) from error


class _Demo:
    """The booth, an observer who knows only what the broker tells, and somebody at the keyboard."""

    def __init__(self, booth: SimulatedBooth, view: View) -> None:
        self._booth = booth
        self._view = view
        self._fleet = Fleet()
        self._broken: set[str] = set()
        self._acting: set[asyncio.Task[None]] = set()
        self._end = asyncio.Event()
        self._asleep = asyncio.Event()

    async def run(self, steps: Sequence[script.Step], for_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(signal.SIGHUP, self._hung_up, [fd for fd in (1, 2) if os.isatty(fd)])
        try:
            await self._booth.start()
            await self._show(steps, for_s)
        finally:
            await self._booth.stop()

    def _hung_up(self, terminal: Sequence[int]) -> None:
        """What is still said to a terminal that was closed would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in terminal:
            os.dup2(nowhere, descriptor)
        self._end.set()

    async def _show(self, steps: Sequence[script.Step], for_s: float | None) -> None:
        address = BrokerAddress.of_url(f"mqtt://127.0.0.1:{self._booth.broker.port}")
        observer = Mqtt(
            Dialer(address),
            "demo-" + secrets.token_hex(4),
            Handlers(lambda: None, self._view_lost, self._received),
            [self._booth.root_topic + "/#"],
            session_expiry_s=0,
        )
        self._view.start()
        self._booth.receipt.on_line = self._view.printed
        # --for ends it with status 0; so do q, ^C, SIGTERM and SIGHUP.
        limit = None if for_s is None else asyncio.get_running_loop().call_later(for_s, self._end.set)
        try:
            with self._view.keyboard(self._key):
                await self._until_the_end(observer, steps)
        finally:
            if limit is not None:
                limit.cancel()
            await self._booth.stop_agent()
            self._view.stop()

    async def _until_the_end(self, observer: Mqtt, steps: Sequence[script.Step]) -> None:
        agent = self._booth.ended
        assert agent is not None
        agent.add_done_callback(lambda _: self._end.set())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(observer.run()), group.create_task(self._play(steps)), group.create_task(self._refresh())]
            await self._end.wait()
            self._view.ending(self._fleet)
            self._asleep.clear()  # a restart has set it
            await self._booth.stop_agent()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._asleep.wait()  # so that its last word is shown too
            await observer.close()
            for task in tasks:
                task.cancel()

    async def _play(self, steps: Sequence[script.Step]) -> None:
        started_s = asyncio.get_running_loop().time()
        for step in steps:
            await asyncio.sleep(max(0.0, started_s + step.at_s - asyncio.get_running_loop().time()))
            await self._act(step.action)

    async def _refresh(self) -> None:
        while True:
            self._view.show(self._fleet)
            await asyncio.sleep(0.25)

    def _received(self, message: Incoming) -> None:
        topic = self._fleet.take(message.topic, message.payload)
        if topic is not None:
            self._view.message(topic, message.payload)
            if any(booth.word == "asleep" for booth in self._fleet.booths.values()):
                self._asleep.set()

    def _view_lost(self, error: BrokerError) -> None:
        self._view.note(f"the observer lost the broker ({error})")

    def _key(self, key: str) -> None:
        if key == "q":
            self._end.set()
            return
        if all(switch.key != key for switch in self._booth.switches) and key.isprintable():
            lacks = self._booth.lacks(key)
            self._view.note(f"[{key}] does nothing" + (f" here: this booth has no {lacks}" if lacks else ""))
        for switch in self._booth.switches:
            if switch.key == key:
                action = switch.repairs if switch.breaks in self._broken else switch.breaks
                task = asyncio.ensure_future(self._act(action))
                self._acting.add(task)
                task.add_done_callback(self._acting.discard)

    async def _act(self, action: str) -> None:
        switch: Switch = next(item for item in self._booth.switches if action in (item.breaks, item.repairs))
        if action == switch.breaks and not switch.only_happens:
            self._broken.add(switch.breaks)
        else:
            self._broken.discard(switch.breaks)
        self._view.acted(action, self._broken)
        await self._booth.act(action)
