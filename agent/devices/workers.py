"""Hazardous calls in processes that can be killed: SANE, cameras, everything whose C code may hang, crash or leak.

A worker is one process for one call on one device. It starts when it is needed, answers with one JSON
object, and is gone. What it imports never enters the daemon. At its deadline its whole process group is
killed; one that the kernel does not let die is written off, and until it is gone its device is `wedged`.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from agent.contract.words import printable

RESULT_LIMIT: Final = 64 * 1024  # bytes of an answer
_SAID_LIMIT: Final = 2048  # bytes that are kept of what a dying library wrote
_READ_BYTES: Final = 16 * 1024
_READS_AT_END: Final = RESULT_LIMIT // _READ_BYTES + 2  # bounded: a child that fled into a session of its own may go on writing
_DIES_WITHIN_S: Final = 2.0  # after SIGKILL; what is still there then is stuck in the kernel
_CLOSES_WITHIN_S: Final = 0.2

FailureCode = Literal["not-responding", "wedged", "probe-failed"]
Kill = Callable[[int], None]


class WorkerFailed(Exception):
    """No answer. `code` and `detail` are those of the finding: too late, cannot be killed, or crashed."""

    def __init__(self, code: FailureCode, detail: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: FailureCode = code
        self.detail = dict(detail)


def kill_group(leader: int) -> None:
    """SIGKILL for the worker and whatever it started. It leads a group of its own, and is not yet reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class Workers:
    """Runs calls on devices, one at a time for each. Create it on the running loop."""

    def __init__(self, kill: Kill = kill_group) -> None:
        self._kill = kill
        self._turns: dict[str, asyncio.Lock] = {}
        self._alive: set[_Worker] = set()
        self._stuck: dict[str, _Worker] = {}

    @property
    def alive(self) -> int:
        """How many there are now, stuck ones too."""
        return len(self._alive)

    async def call(
        self,
        device: str,
        job: str,
        request: Mapping[str, Any],
        deadline_s: float,
        *,
        freed: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """What the function `job` (`module:function` below agent.devices) answers to `request`.

        `device` names what is worked on: a second call on it waits for its turn. `deadline_s` counts from the
        start of the process. `freed` is called when a worker that was written off is gone after all.
        Raises WorkerFailed.
        """
        async with self._turns.setdefault(device, asyncio.Lock()):
            if device in self._stuck:
                raise WorkerFailed("wedged", {"pid": self._stuck[device].pid})
            try:
                worker = _Worker(device, job, request, self._kill)
            except OSError as error:  # no memory, no descriptor, no process left for it
                raise WorkerFailed("probe-failed", {"reason": f"no worker: {error.strerror}"}) from error
            self._alive.add(worker)
            worker.gone.add_done_callback(lambda _: self._alive.discard(worker))
            try:
                return await worker.answer(deadline_s)
            except WorkerFailed:
                if worker.gone.done() or await self._ended(device, worker, freed):
                    raise
                raise WorkerFailed("wedged", {"pid": worker.pid}) from None
            except asyncio.CancelledError:
                await self._ended(device, worker, freed)
                raise

    async def end(self, device: str) -> None:
        """Kill what works on a device, also what was written off before: the kernel may let it go now."""
        for worker in [worker for worker in self._alive if worker.device == device]:
            worker.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DIES_WITHIN_S):
                    await asyncio.shield(worker.gone)

    def close(self) -> None:
        """Kill what is left."""
        for worker in list(self._alive):
            worker.close()

    async def _ended(self, device: str, worker: "_Worker", freed: Callable[[], None]) -> bool:
        """Kill it, and give the kernel a moment; False: it is written off."""
        self._stuck[device] = worker

        def gone(_: object) -> None:
            if self._stuck.pop(device, None) is not None and written_off:
                freed()

        written_off = False
        worker.gone.add_done_callback(gone)
        worker.end()
        try:
            async with asyncio.timeout(_DIES_WITHIN_S):
                await asyncio.shield(worker.gone)
        except TimeoutError:
            written_off = True
        return not written_off


class _Worker:
    """One process. `gone` is done once the kernel has ended it."""

    def __init__(self, device: str, job: str, request: Mapping[str, Any], kill: Kill) -> None:
        loop = asyncio.get_running_loop()
        self.device = device
        self._kill = kill
        self._answer = bytearray()
        self._said = bytearray()
        self._ended = False
        self.gone: asyncio.Future[int] = loop.create_future()
        # -I: neither the caller's folder nor PYTHON* variables choose what is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.devices.worker", job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._process.kill()
            self._process.communicate()
            raise
        self._outputs = {self._process.stdout: (self._answer, RESULT_LIMIT), self._process.stderr: (self._said, _SAID_LIMIT)}
        for stream in self._outputs:
            os.set_blocking(stream.fileno(), False)
            loop.add_reader(stream.fileno(), self._readable, stream)
        loop.add_reader(self._pidfd, self._exited)
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps(request).encode())  # a request fits the pipe: it does not block

    async def answer(self, deadline_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(deadline_s):
                status = await asyncio.shield(self.gone)
        except TimeoutError:
            raise WorkerFailed("not-responding", {"reason": f"no answer in {deadline_s:g} s"}) from None
        if status == 0:
            with contextlib.suppress(ValueError):
                answer = json.loads(self._answer)
                if isinstance(answer, dict):
                    return answer
        raise WorkerFailed("probe-failed", {"reason": "crashed", "how": _how(status), "text": self._last_words()})

    def end(self) -> None:
        """Kill it."""
        self._kill(self.pid)

    def close(self) -> None:
        """Kill it, and wait a moment only: the agent ends. One that is stuck is left to whoever adopts it."""
        self.end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSES_WITHIN_S)
        self._let_go()
        self.gone.cancel()

    def _readable(self, stream: Any) -> bool:
        """Take what is there; False where nothing is."""
        collected, limit = self._outputs[stream]
        try:
            data = os.read(stream.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(stream.fileno())
            return False
        collected += data
        if len(collected) > limit:
            if collected is self._answer:
                self.end()  # it is not what we asked for
            del collected[:-limit]
        return True

    def _exited(self) -> None:
        self._kill(self.pid)  # whatever it started and left behind; it is still ours to name until it is reaped
        for stream in self._outputs:
            for _ in range(_READS_AT_END):  # what it wrote before it ended is still in the pipe
                if not self._readable(stream):
                    break
        self._let_go()
        status = self._process.wait()
        if not self.gone.done():
            self.gone.set_result(status)

    def _let_go(self) -> None:
        if self._ended:
            return
        self._ended = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        for stream in self._outputs:
            loop.remove_reader(stream.fileno())
            stream.close()

    def _last_words(self) -> str:
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        return printable(lines[-1]) if lines else ""


def _how(status: int) -> str:
    if status >= 0:
        return f"exit-{status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal-{-status}"
