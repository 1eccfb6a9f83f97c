"""How root's programs read a question, from whoever has the daemon's user: only what was said, and not for ever."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.contract.typed import Range
from agent.privileged import asked
from agent.privileged.verdict import Ended


@dataclass(frozen=True)
class Question:
    act: str
    bytes: Annotated[int, Range(0, 2**31)] = 0


def line(**words: Any) -> bytes:
    return json.dumps({"act": "x"} | words).encode() + b"\n"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Question, bytes]]]:
    """What is read of these pieces; the one who writes them closes then, or waits until nobody reads any more."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdin", open(reader, "rb", buffering=0))  # noqa: SIM115 - closed below
    stop = threading.Event()
    writing: list[threading.Thread] = []

    def told(*pieces: bytes, closes: bool = True, every_s: float = 0.0) -> tuple[Question, bytes]:
        def write() -> None:
            try:
                for piece in pieces:
                    os.write(writer, piece)
                    if stop.wait(every_s):
                        break
                if not closes:
                    stop.wait(60)
            except BrokenPipeError:
                pass
            finally:
                os.close(writer)

        writing.append(threading.Thread(target=write))
        writing[0].start()
        return asked.read(Question)

    yield told
    stop.set()
    sys.stdin.close()
    for thread in writing:
        thread.join(10)
    if not writing:
        os.close(writer)


Told = Callable[..., tuple[Question, bytes]]


def test_a_line_and_as_many_bytes_as_it_says(told: Told) -> None:
    assert told(line(bytes=5) + b"hello and more", closes=False) == (Question("x", 5), b"hello")


def test_it_may_come_in_pieces_of_any_size(told: Told) -> None:
    message = line(bytes=3) + b"\n\xffz"
    assert told(*(message[at : at + 1] for at in range(len(message))), closes=False) == (Question("x", 3), b"\n\xffz")


def test_where_no_bytes_follow_nobody_waits_for_them(told: Told) -> None:
    assert told(line(), closes=False) == (Question("x"), b"")


def test_of_too_many_bytes_one_more_than_may_be_is_read(told: Told) -> None:
    """So that whoever judges it sees that it is too large."""
    pieces = [line(bytes=2**31), *[b"x" * 65_536] * (MAX_ENVELOPE_BYTES // 65_536 + 2)]
    _, message = told(*pieces, closes=False)
    assert message == b"x" * (MAX_ENVELOPE_BYTES + 1)


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\n", b"x\n", b"{}\n", b"[]\n", b"null\n", line()[:-1], line(bytes=5) + b"four", line(bytes=-1),
        line(bytes=2**31 + 1), line(bytes=True), line(bytes=1.0), line(more=1), line(act=None), b'{"act":"x","act":"y"}\n',
        b'{"act":NaN}\n', b'{"act":"\xff"}\n', b'{"act":"' + b"x" * 4088 + b'"}\n', b"x" * 4097, b"[" * 4000 + b"\n", b"\0" * 100,
    ],
)  # fmt: skip
def test_anything_else_is_a_bad_request(told: Told, message: bytes) -> None:
    with pytest.raises(Ended) as caught:
        told(message)
    assert caught.value.code == "bad-request"
    assert len(str(caught.value)) < 500


def test_a_line_without_an_end_is_not_read_for_long(told: Told) -> None:
    with pytest.raises(Ended, match="too long"):
        told(*[b"x" * 1024] * 100, closes=False)


@pytest.mark.parametrize("pieces", [(), (b"{",), (line(bytes=9) + b"four",)])
def test_whoever_says_nothing_more_is_not_waited_for(
    told: Told, monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(asked, "_READ_S", 0.2)
    with pytest.raises(Ended, match="write a line"):
        told(*pieces, closes=False)


def test_whoever_says_a_byte_now_and_then_is_not_waited_for_either(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_READ_S", 0.5)
    began_s = time.monotonic()
    with pytest.raises(Ended, match="write a line"):
        told(line(bytes=10_000), *[b"x"] * 5000, every_s=0.02)
    assert time.monotonic() - began_s < 20


# --- one at a time ---


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_TURN_S", 0.3)
    with asked.alone(tmp_path / "run"), pytest.raises(BlockingIOError), asked.alone(tmp_path / "run"):
        pytest.fail("two at once")
    with asked.alone(tmp_path / "run"):
        pass


def test_the_next_one_goes_on_once_the_one_before_is_done(tmp_path: Path) -> None:
    order = []
    began = threading.Event()

    def first() -> None:
        with asked.alone(tmp_path):
            began.set()
            with pytest.raises(BlockingIOError), open(tmp_path / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    began.wait(10)
    with asked.alone(tmp_path):
        order.append("second")
    thread.join(10)
    assert order == ["first", "second"]


def test_whoever_is_killed_keeps_no_turn(tmp_path: Path) -> None:
    program = "import pathlib, sys; from agent.privileged.asked import alone\n"
    program += "with alone(pathlib.Path(sys.argv[1])): print('in', flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        process.kill()
        process.wait(10)
    with asked.alone(tmp_path):
        pass


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), asked.alone(tmp_path):
        pytest.fail("it was followed")
    assert not (tmp_path / "elsewhere").exists()


def test_nobody_else_reads_or_takes_the_lock(tmp_path: Path) -> None:
    with asked.alone(tmp_path / "run"):
        assert (tmp_path / "run/lock").stat().st_mode & 0o777 == 0o600
