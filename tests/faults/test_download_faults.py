"""Rows 54 and 55 of the fault catalogue, and 41 again: what a server, a line or a disk does to a file that is fetched.

Whatever they do, there is never a file under the name of its hash that is not that file.
"""

import asyncio
import hashlib
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.simulator.mosquitto import free_port
from agent.system.downloads import Downloads, NotFetched
from tests.background import meanwhile
from tests.faults import file_server as habits
from tests.faults.file_server import FileServer, Habit, file_server
from tests.faults.pki import Authority, Pair
from tests.faults.test_store_faults import fill, tmpfs

CONTENT = random.Random(54).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
SHORT_S = 1.5  # patience, where it is to end


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(CONTENT) as running:
        yield running


def nobody(_per_cent: int) -> None:
    """Listens to no progress."""


def part_in(folder: Path) -> Path:
    return folder / f"{SHA256}.part"


def length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def fetch(folder: Path, url: str, patience_s: float = 30.0) -> None:
    """It succeeds, and the file is right."""
    await Downloads(folder, lambda: None, patience_s).fetch(url, SIZE, SHA256, nobody)
    assert (folder / SHA256).read_bytes() == CONTENT
    assert [file.name for file in folder.iterdir() if file.name.startswith(SHA256)] == [SHA256]


async def refusal(folder: Path, url: str, patience_s: float = 30.0) -> tuple[str, int]:
    """It fails: the reason, and how much is kept. The file is not there, and the message names neither folder nor address."""
    with pytest.raises(NotFetched) as caught:
        await Downloads(folder, lambda: None, patience_s).fetch(url, SIZE, SHA256, nobody)
    assert str(caught.value)
    assert "agent.tar" not in str(caught.value)
    assert not (folder / SHA256).exists()
    return caught.value.reason, length(part_in(folder))


# --- 54: truncated, wrong ---


async def test_f54_a_truncated_download_goes_on_where_it_ended(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.cut_after(150_000)]
    assert await refusal(tmp_path, server.url()) == ("truncated", 150_000)
    await fetch(tmp_path, server.url())
    assert server.ranges == [None, "bytes=150000-"]


async def test_f54_a_line_that_breaks_again_and_again_carries_the_file_in_the_end(tmp_path: Path, server: FileServer) -> None:
    def breaks(handler: habits.Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if start:
            handler.head(206, SIZE - start, Content_Range=f"bytes {start}-{SIZE - 1}/{SIZE}")
        else:
            handler.head(200, SIZE)
        handler.send(CONTENT[start : start + 90_000])

    server.habits = [breaks] * 4
    kept = [await refusal(tmp_path, server.url()) for _ in range(4)]
    assert kept == [("truncated", 90_000), ("truncated", 180_000), ("truncated", 270_000), ("truncated", 360_000)]
    await fetch(tmp_path, server.url())


async def test_f54_other_bytes_than_those_signed_are_refused_and_nothing_of_them_stays(tmp_path: Path) -> None:
    with file_server(CONTENT[:-1] + b"x") as server:
        assert await refusal(tmp_path, server.url()) == ("wrong-hash", 0)
        assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


async def test_f54_a_part_that_a_power_cut_spoiled_costs_a_second_download_and_no_visit(
    tmp_path: Path, server: FileServer
) -> None:
    part_in(tmp_path).write_bytes(bytes(200_000))
    await fetch(tmp_path, server.url())
    assert server.ranges == ["bytes=200000-", None]


async def test_f54_a_spoiled_part_and_a_wrong_server_end_too(tmp_path: Path) -> None:
    part_in(tmp_path).write_bytes(bytes(200_000))
    with file_server(bytes(SIZE)) as server:
        assert await refusal(tmp_path, server.url()) == ("wrong-hash", 0)
        assert server.ranges == ["bytes=200000-", None]


@pytest.mark.parametrize("old", [bytes(SIZE), CONTENT + b"more"])
async def test_f54_a_part_that_is_too_long_or_all_wrong_is_fetched_anew(tmp_path: Path, server: FileServer, old: bytes) -> None:
    part_in(tmp_path).write_bytes(old)
    await fetch(tmp_path, server.url())
    assert server.ranges == [None]


START = 200_000
ODD: dict[str, Habit] = {
    "another place": habits.range_of(f"bytes 100000-{SIZE - 1}/{SIZE}", CONTENT[100_000:]),
    "as long as the rest, from the start": habits.range_of(f"bytes 0-{SIZE - START - 1}/{SIZE}", CONTENT[: SIZE - START]),
    "another size": habits.range_of(f"bytes {START}-{SIZE - 1}/{SIZE + 1}", CONTENT[START:]),
    "a middle": habits.range_of(f"bytes {START}-{START + 9}/{SIZE}", CONTENT[START : START + 10]),
    "no numbers": habits.range_of("bytes everything", CONTENT[START:]),
    "more than it says": habits.range_of(f"bytes {START}-{SIZE - 1}/{SIZE}", CONTENT[START:] + b"more"),
    "nothing there": habits.status(416),
    "no range at all": habits.status(206),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_f54_an_odd_answer_to_a_range_is_asked_for_all_once(tmp_path: Path, server: FileServer, odd: Habit) -> None:
    part_in(tmp_path).write_bytes(CONTENT[:START])
    server.habits = [odd]
    await fetch(tmp_path, server.url())
    assert server.ranges == [f"bytes={START}-", None]


async def test_f54_a_server_that_is_odd_twice_is_refused_and_the_part_stays(tmp_path: Path, server: FileServer) -> None:
    part_in(tmp_path).write_bytes(CONTENT[:START])
    server.habits = [habits.status(416), habits.status(416)]
    assert await refusal(tmp_path, server.url()) == ("http-416", START)


# --- 55: endless ---


async def test_f55_an_endless_download_ends_at_the_size_that_was_signed(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.endless]
    sizes = [0]

    async def look() -> None:
        while True:
            sizes.append(length(part_in(tmp_path)))
            await asyncio.sleep(0.001)

    async with meanwhile(look()):
        assert await refusal(tmp_path, server.url()) == ("too-large", 0)
    assert max(sizes) <= SIZE
    assert list(tmp_path.iterdir()) == []
    assert server.sent < 32 * 1024 * 1024, "what the kernel holds of it, and no more"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, 10**12])
async def test_f55_a_server_that_announces_another_size_is_not_read(tmp_path: Path, server: FileServer, size: int) -> None:
    server.habits = [lambda handler: handler.head(200, size)]
    part_in(tmp_path).write_bytes(CONTENT[:START])
    assert await refusal(tmp_path, server.url()) == ("wrong-size", START)


async def test_f55_the_right_file_with_something_behind_it_is_too_large(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.file_and_more]
    assert await refusal(tmp_path, server.url()) == ("too-large", 0)


async def test_f55_one_that_never_answers_ends_in_time(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.never]
    began_s = time.monotonic()
    assert await refusal(tmp_path, server.url(), SHORT_S) == ("timeout", 0)
    assert time.monotonic() - began_s < 20


async def test_f55_one_that_falls_silent_ends_in_time_and_what_came_stays(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.silent_after(100_000)]
    assert await refusal(tmp_path, server.url(), SHORT_S) == ("timeout", 100_000)
    await fetch(tmp_path, server.url())


@pytest.mark.parametrize("habit", [habits.drop_by_drop(10), habits.header_letter_by_letter])
async def test_f55_one_that_is_never_quite_silent_ends_in_time(tmp_path: Path, server: FileServer, habit: Habit) -> None:
    server.habits = [habit]
    began_s = time.monotonic()
    reason, kept = await refusal(tmp_path, server.url(), SHORT_S)
    assert (reason, time.monotonic() - began_s < 20) == ("too-slow", True)
    assert kept < 1000


async def test_a_slow_line_that_carries_something_all_the_time_is_waited_for(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.drop_by_drop(12_000)]
    began_s = time.monotonic()
    await fetch(tmp_path, server.url(), 1.0)
    assert time.monotonic() - began_s > 2.0, "longer than the time over which a speed is measured"


# --- servers that have no file ---


@pytest.mark.parametrize("number", [204, 401, 403, 404, 410, 429, 500, 503])
async def test_a_refusal_is_named_by_its_number_and_costs_nothing_that_came(
    tmp_path: Path, server: FileServer, number: int
) -> None:
    part_in(tmp_path).write_bytes(CONTENT[:START])
    server.habits = [habits.status(number)]
    assert await refusal(tmp_path, server.url()) == (f"http-{number}", START)


async def test_a_redirection_without_end_ends(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.redirect("/agent.tar")] * 100
    assert await refusal(tmp_path, server.url()) == ("bad-redirect", 0)
    assert len(server.asked) == 6


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/agent.tar", "file:///etc/passwd", "http://[::1/"])
async def test_a_redirection_to_nowhere_is_not_followed(tmp_path: Path, server: FileServer, location: str) -> None:
    server.habits = [habits.redirect(location)]
    assert await refusal(tmp_path, server.url()) == ("bad-redirect", 0)


async def test_what_is_no_web_server_is_said_to_be_none(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.no_http]
    assert await refusal(tmp_path, server.url()) == ("bad-answer", 0)


async def test_one_that_hangs_up_without_a_word_is_asked_again_later(tmp_path: Path, server: FileServer) -> None:
    server.habits = [lambda _: None]
    assert await refusal(tmp_path, server.url()) == ("truncated", 0)


async def test_a_closed_port_is_refused(tmp_path: Path) -> None:
    assert await refusal(tmp_path, f"http://127.0.0.1:{free_port()}/") == ("refused", 0)


@pytest.mark.parametrize(
    "url",
    ["http://", "ftp://127.0.0.1/", "http://127.0.0.1:port/", "http://[::1/", f"http://{'x' * 70}.fr/"],
)
async def test_an_address_that_is_none_is_said_to_be_none(tmp_path: Path, url: str) -> None:
    assert await refusal(tmp_path, url) == ("bad-url", 0)


async def test_an_address_with_blanks_is_not_asked_for(tmp_path: Path, server: FileServer) -> None:
    assert await refusal(tmp_path, server.url("/two words")) == ("bad-url", 0)
    assert server.asked == []


def alone(folder: Path, url: str, rate_bytes_s: float | None = None, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """The process, started by hand."""
    question = {"url": url, "size_bytes": SIZE, "sha256": SHA256, "folder": str(folder), "rate_bytes_s": rate_bytes_s}
    command = [*wrapper, sys.executable, "-I", "-m", "agent.fetching"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(question).encode())
    process.stdin.close()
    process.stdin = None  # else communicate() would close it again
    return process


@pytest.mark.parametrize(("host", "reason"), [("updates.example", "dns-failure"), ("192.0.2.1", "unreachable")])
def test_without_a_network_it_says_which_part_is_missing(tmp_path: Path, host: str, reason: str) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a network namespace needs root and unshare")
    process = alone(tmp_path, f"http://{host}/agent.tar", wrapper=("unshare", "--net"))
    said, _ = process.communicate(timeout=90)
    assert (json.loads(said)["reason"], process.returncode) == (reason, 0)


# --- TLS ---


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts: OpenSSL takes the variable in place of the system's list."""
    made = Authority(tmp_path, "updates-ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "no-such-folder"))
    return made


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("updates", "IP:127.0.0.1")


async def test_a_server_that_the_machine_trusts_is_read_and_resumed(tmp_path: Path, pair: Pair) -> None:
    folder = tmp_path / "downloads"
    with file_server(CONTENT, pair) as server:
        server.habits = [habits.cut_after(150_000), habits.redirect("/elsewhere")]
        assert await refusal(folder, server.url()) == ("truncated", 150_000)
        await fetch(folder, server.url())
        assert server.ranges == [None, "bytes=150000-", "bytes=150000-"]


@pytest.mark.parametrize("wrong", ["another name", "expired"])
async def test_a_server_that_proves_something_else_is_asked_for_nothing(tmp_path: Path, authority: Authority, wrong: str) -> None:
    san = "IP:127.0.0.1" if wrong == "expired" else "DNS:updates.example"
    with file_server(CONTENT, authority.issue("other", san, expired=wrong == "expired")) as server:
        assert await refusal(tmp_path / "downloads", server.url()) == ("tls-failure", 0)
        assert server.asked == []


async def test_an_authority_that_the_machine_does_not_know_is_none(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "stranger-ca").issue("updates", "IP:127.0.0.1")
    with file_server(CONTENT, stranger) as server, pytest.raises(NotFetched, match=r"unknown-ca: .*update-ca-certificates"):
        await Downloads(tmp_path / "downloads", lambda: None).fetch(server.url(), SIZE, SHA256, nobody)


async def test_tls_of_another_age_is_refused(tmp_path: Path, pair: Pair) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about this version
        with file_server(CONTENT, pair, ssl.TLSVersion.TLSv1_1) as server:
            assert await refusal(tmp_path / "downloads", server.url()) == ("tls-failure", 0)


async def test_what_began_with_tls_never_goes_on_without(tmp_path: Path, pair: Pair, server: FileServer) -> None:
    with file_server(CONTENT, pair) as secure:
        secure.habits = [habits.redirect(server.url())]
        assert await refusal(tmp_path / "downloads", secure.url()) == ("bad-redirect", 0)
        assert server.asked == []
        server.habits = [habits.redirect(secure.url())]
        await fetch(tmp_path / "downloads", server.url())


async def test_a_server_without_tls_is_no_https(tmp_path: Path, server: FileServer) -> None:
    assert await refusal(tmp_path, server.url().replace("http:", "https:"), 5.0) == ("tls-failure", 0)


# --- 41 again: the disk ---


async def test_f41_a_card_without_room_is_noticed_before_anything_is_asked(tmp_path: Path, server: FileServer) -> None:
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        part_in(disk).write_bytes(CONTENT[:START])
        assert await refusal(disk, server.url()) == ("disk-full", 0)
        assert (server.asked, list(disk.iterdir())) == ([], [])


async def test_f41_a_card_that_fills_up_meanwhile_gets_its_room_back(tmp_path: Path, server: FileServer) -> None:
    server.habits = [habits.held_after(100_000)]
    with tmpfs(tmp_path / "disk", "size=66m") as disk:
        running = asyncio.create_task(refusal(disk, server.url()))
        await until(lambda: length(part_in(disk)) == 100_000)
        filler = fill(disk)
        server.gate.set()
        assert await running == ("disk-full", 0)
        assert list(disk.iterdir()) == [filler]
        filler.unlink()
        await fetch(disk, server.url())


async def test_f43_a_card_that_cannot_be_written_is_said_to_be_the_cause(tmp_path: Path, server: FileServer) -> None:
    with tmpfs(tmp_path / "disk", "size=80m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert await refusal(disk, server.url()) == ("disk-failed", 0)


async def test_a_link_in_the_parts_place_leads_nowhere(tmp_path: Path, server: FileServer) -> None:
    folder, precious = tmp_path / "downloads", tmp_path / "precious"
    folder.mkdir()
    precious.write_bytes(b"precious")
    part_in(folder).symlink_to(precious)
    reason, _ = await refusal(folder, server.url())
    assert (reason, precious.read_bytes()) == ("disk-failed", b"precious")


# --- the process itself ---


async def test_f49_killed_again_and_again_it_goes_on_each_time_and_never_shows_half_a_file(
    tmp_path: Path, server: FileServer
) -> None:
    def grown(kept: int) -> bool:
        return length(part_in(tmp_path)) > kept

    kept = 0
    for _ in range(4):
        with alone(tmp_path, server.url(), rate_bytes_s=100_000.0) as process:
            await until(partial(grown, kept))
            process.kill()
        assert not (tmp_path / SHA256).exists()
        kept = length(part_in(tmp_path))
        assert part_in(tmp_path).read_bytes() == CONTENT[:kept]
    await fetch(tmp_path, server.url())
    starts = [int((asked or "bytes=0-")[6:-1]) for asked in server.ranges]
    assert (starts, len(set(starts))) == (sorted(starts), len(starts)), "each behind the one before"


async def test_a_question_that_is_none_is_no_answer(tmp_path: Path) -> None:
    for question in (
        b"",
        b"{}",
        b"[1]",
        json.dumps({"url": "x", "size_bytes": 1, "sha256": "../x", "folder": str(tmp_path)}).encode(),
    ):
        done = subprocess.run(
            [sys.executable, "-I", "-m", "agent.fetching"], input=question, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"booth-agent: nothing was fetched: ")
