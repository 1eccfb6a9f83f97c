"""`boothctl` against a real broker: one real booth, and a hundred that this test speaks for."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent import VERSION
from agent.simulator.mosquitto import Mosquitto, free_port
from tests.boothctl.program import WHEN, boothctl, environment, say, state, until
from tests.world import BIN, World, world

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"


def alarm(severity: str = "fault", **changes: Any) -> dict[str, Any]:
    return {
        "code": "media-empty", "peripheral": "receipt-printer", "severity": severity, "fix_by": "shopkeeper",
        "services": ["print"], "since": WHEN, "clock": "synced", "tried": [], "part": "thermal roll",
        "runbook": "receipt-printer/media-empty", "text": {"fr": "Plus de papier : à recharger.", "en": "Out of paper."},
    } | changes  # fmt: skip


@contextlib.asynccontextmanager
async def a_hundred_booths(folder: Path) -> AsyncIterator[tuple[World, str]]:
    """50 booths in 70 and 50 in 72; every tenth of them out of paper, 70-0001 lost, 72-0001 asleep. And the real one in 61."""
    async with world(folder) as w:
        await w.start_agent()
        w.observer.heartbeat_s = 3600
        await w.until(lambda: w.observer.last("service/print") == w.observer.last("led") == "ok", "all that it says at first")
        for number in range(50):
            for area in ("70", "72"):
                booth = f"{area}-{number:04}"
                word = {"70-0001": "lost", "72-0001": "asleep"}.get(booth, "online")
                say(w, booth, "service/print", "ok")
                say(w, booth, "led", "your-turn" if number % 10 == 0 else "ok")
                say(w, booth, "state", state(word, services={"print": "unknown" if word in ("lost", "asleep") else "ok"}))
                if number % 10 == 0:
                    say(w, booth, "alarm/receipt-printer/media-empty", alarm())
                elif number % 10 == 5:
                    say(w, booth, "alarm/receipt-printer/media-empty", alarm("warning"))
        say(w, "61-0007", "echo", "the last word", retain=False).wait_for_publish(20)
        yield w, f"mqtt://127.0.0.1:{w.broker.port}"
        # What this test published is not what an agent would: without expiry, for one.
        w.observer.problems[:] = [problem for problem in w.observer.problems if "/61-0007/" in problem]


async def test_a_hundred_booths_and_one_that_is_real(tmp_path: Path) -> None:
    async with a_hundred_booths(tmp_path) as (w, url):
        await _ls(w, url, tmp_path)
        await _red(url, tmp_path)
        await _show(w, url, tmp_path)
        await _unknown(url, tmp_path)
        await _watch(w, url, tmp_path)


async def _ls(w: World, url: str, home: Path) -> None:
    everything = await boothctl(home, "ls", "--broker", url)
    assert (everything.status, everything.err) == (0, "")
    assert everything.out.splitlines()[0].split() == ["AREA", "BOOTH", "STATE", "LIGHT", "SERVICES", "ALARMS"]
    assert len(everything.booths) == 101
    assert everything.booths == sorted(everything.booths)
    lines = {line.split()[1]: line.split() for line in everything.out.splitlines()}
    assert lines["61-0007"][:5] == ["61", "61-0007", "online", w.observer.last("led"), "print:ok"]
    assert lines["70-0010"] == ["70", "70-0010", "online", "your-turn", "print:ok", "receipt-printer/media-empty"]
    assert lines["70-0002"] == ["70", "70-0002", "online", "ok", "print:ok", "–"]
    assert lines["70-0001"][4] == lines["72-0001"][4] == "print:unknown", "nothing is known of a booth that is not there"

    area = await boothctl(home, "ls", "--area", "70", "--broker", url)
    assert len(area.booths) == 50
    assert {booth[:3] for booth in area.booths} == {"70-"}
    assert (await boothctl(home, "ls", "--area", "99", "--broker", url)).booths == []

    by_variable = await boothctl(home, "ls", "--area", "61", BOOTHCTL_BROKER=url)
    (home / ".config").mkdir()
    (home / ".config" / "boothctl.toml").write_text(f'url = "{url}"\n')
    by_file = await boothctl(home, "ls", "--area", "61")
    (home / ".config" / "boothctl.toml").unlink()
    assert by_variable.booths == by_file.booths == ["61-0007"]


async def _red(url: str, home: Path) -> None:
    red = await boothctl(home, "ls", "--red", "--broker", url)
    wanted = {f"{area}-{number:04}" for area in ("70", "72") for number in range(0, 50, 10)} | {"70-0001"}
    assert set(red.booths) == wanted, "faults and lost ones; no warnings, none asleep"
    both = await boothctl(home, "ls", "--red", "--area", "72", "--json", "--broker", url)
    assert [booth["booth"] for booth in both.json] == sorted(booth for booth in wanted if booth.startswith("72"))
    assert both.json[0]["alarms"] == [alarm()]
    assert both.json[0].keys() == {"area", "booth", "state", "light", "services", "health", "alarms", "meta"}


async def _show(w: World, url: str, home: Path) -> None:
    page = await boothctl(home, "show", "61-0007", "--broker", url)
    assert (page.status, page.err) == (0, "")
    assert page.out.startswith("61-0007 (61)  online since 20")
    assert f"agent     {VERSION}, clock " in page.out
    assert "\nservices  print:ok\n" in page.out
    for peripheral in ("board", "booth", "receipt-printer"):
        assert f"\n{peripheral} " in page.out
    whole = (await boothctl(home, "show", "61-0007", "--json", "--broker", url)).json
    assert whole["state"] == w.observer.last("state")
    assert whole["meta"] == w.observer.last("meta")
    assert whole["health"]["board"].keys() == w.observer.last("health/board").keys()

    sick = await boothctl(home, "show", "70-0010", "--broker", url)
    assert f"ALARM     receipt-printer/media-empty  fault since {WHEN}  fix by shopkeeper  part: thermal roll" in sick.out
    assert "Plus de papier : à recharger." in sick.out
    assert "(runbook: receipt-printer/media-empty)" in sick.out


async def _unknown(url: str, home: Path) -> None:
    for options in ((), ("--json",)):
        nobody = await boothctl(home, "show", "99-0001", "--broker", url, *options)
        assert (nobody.status, nobody.out) == (3, "")
        assert nobody.err == "boothctl: no message of a booth '99-0001' on this broker\n"


async def _watch(w: World, url: str, home: Path) -> None:
    async with watching(home, url, "61-0007") as lines:
        await until(lambda: any(line.startswith("61-0007/state  online") for line in lines))
        w.printer.change(paper="out")
        await until(lambda: "61-0007/alarm/receipt-printer/media-empty  fault, shopkeeper: Plus de papier" in "\n".join(lines))
        w.printer.change(paper="plenty")
        await until(lambda: "61-0007/alarm/receipt-printer/media-empty  cleared" in lines)
        await until(lambda: any(line.endswith("receipt-printer media-empty cleared") for line in lines))
        assert "61-0007/health/receipt-printer  fault media-empty" in lines
        assert {line.partition("/")[0] for line in lines} == {"61-0007"}, "and no other booth"

    async with watching(home, url, "--area", "72", "--json") as lines:
        await until(lambda: len(lines) >= 50 * 3 + 10)
        say(w, "72-0007", "led", "broken")
        say(w, "70-0007", "led", "broken")
        say(w, "72-0007", "led", "ok")
        await until(lambda: json.loads(lines[-1])["payload"] == "ok" and not json.loads(lines[-1])["retained"])
        messages = [json.loads(line) for line in lines]
        assert {message["topic"].split("/")[2] for message in messages} == {"72"}
        assert messages[-2] == {"topic": "booth/v1/72/72-0007/led", "retained": False, "payload": "broken"}


@contextlib.asynccontextmanager
async def watching(home: Path, url: str, *arguments: str, status: int = 0) -> AsyncIterator[list[str]]:
    """The lines of a `boothctl watch`, as they come; it is ended as by ^C."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "boothctl"), "watch", "--broker", url, *arguments,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home),
    )  # fmt: skip
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            lines.append(line.decode().rstrip("\n"))

    reading = asyncio.create_task(read())
    try:
        yield lines
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == status
        assert process.stderr is not None
        assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


async def test_show_tells_what_was_tried_and_what_is_being_tried(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        tried = [{"remedy": remedy, "at": WHEN, "outcome": "failed"} for remedy in ("reopen", "usb-rebind")]
        say(w, "70-0001", "state", state())
        say(w, "70-0001", "alarm/receipt-printer/not-responding", alarm(code="not-responding", tried=tried))
        say(w, "70-0001", "health/receipt-printer", {
            "peripheral": "receipt-printer", "kind": "receipt-printer", "slot": "usb-1.2", "status": "fault",
            "findings": [{"code": "not-responding", "severity": "fault", "fix_by": "shopkeeper", "since": WHEN, "detail": {}}],
            "facts": {}, "device": {"vendor": None, "product": None, "serial": None}, "since": WHEN, "checked_at": None,
            "healing": {"remedy": "usb-reset", "rung": 3, "attempt": 1, "since": WHEN},
        }).wait_for_publish(20)  # fmt: skip
        page = await boothctl(tmp_path, "show", "70-0001", "--broker", f"mqtt://127.0.0.1:{w.broker.port}")
        assert f"          tried: reopen failed {WHEN}, usb-rebind failed {WHEN}\n" in page.out
        assert "not-responding (now: usb-reset, attempt 1)" in page.out
        w.observer.problems.clear()  # what the test says expires not


# --- a booth is not to be trusted with a technician's terminal ---


async def test_nothing_that_a_booth_says_can_command_the_terminal(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        url = f"mqtt://127.0.0.1:{w.broker.port}"
        text = f"é{EVIL}x"
        finding = {"code": "media-empty", "severity": "fault", "fix_by": "auto", "since": WHEN, "detail": {"text": text}}
        say(w, "70-0001", "state", state(agent=text, session=text, boot_id=text))
        tried = [{"remedy": "usb-reset", "at": WHEN, "outcome": text}]
        hostile = alarm(part=text, runbook=text, tried=tried, text={"fr": text, "en": text})
        say(w, "70-0001", "alarm/receipt-printer/media-empty", hostile)
        say(w, "70-0001", "health/receipt-printer", {
            "peripheral": "receipt-printer", "kind": "receipt-printer", "slot": text, "status": "fault", "findings": [finding],
            "facts": {"paper": text, text: text}, "device": {"vendor": text, "product": text, "serial": text},
            "since": WHEN, "checked_at": None, "healing": None,
        })  # fmt: skip
        # And what keeps no contract at all.
        for topic in ("led", "service/print", "meta", "health/board", "alarm/a/b"):
            for garbage in (
                EVIL,
                f'"{EVIL}"',
                json.dumps({"state": EVIL, "text": EVIL, "findings": EVIL, EVIL: EVIL}),
                b"[" * 200_000,
            ):
                say(w, "70-0001", topic, garbage)
        say(w, "70-0002", "state", json.dumps(state(since=EVIL)))
        say(w, "70-0003", "led", EVIL).wait_for_publish(20)

        for arguments in (("ls",), ("ls", "--json"), ("show", "70-0001"), ("show", "70-0001", "--json")):
            done = await boothctl(tmp_path, *arguments, "--broker", url)
            assert (done.status, done.err) == (0, ""), arguments
            assert "70-0001" in done.out
            assert "70-0003" not in done.out, "it has said nothing that can be read"
            assert done.out.replace("\n", "").isprintable(), arguments
        assert (await boothctl(tmp_path, "show", "70-0001", "--json", "--broker", url)).json["state"]["agent"] == text

        for options in ((), ("--json",)):
            async with watching(tmp_path, url, *options) as lines:
                await until(lambda lines=lines: len(lines) >= 3)
                for kind in ("health", "lifecycle"):
                    say(w, "70-0001", f"event/{kind}", {
                        "id": "s-1", "stream": "s", "seq": 1, "ts": WHEN, "mono_ms": 1, "boot_id": text, "clock": "synced",
                        "class": kind, "code": "media-empty", "peripheral": None, "data": {"change": text, text: [text]},
                    }, retain=False)  # fmt: skip
                say(w, "70-0001", "tele/board", {text: 1}, retain=False)
                await until(lambda lines=lines: "70-0001/tele/board" in lines[-1])
                assert len(lines) >= 6
                assert "".join(lines).isprintable()
        w.observer.problems.clear()  # they were all bad


async def test_no_answer_is_status_3_and_says_why(tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    for arguments in (("ls",), ("show", "61-0007"), ("watch",), ("ls", "--json")):
        done = await boothctl(tmp_path, *arguments, "--broker", url, "--wait", "0.5")
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"boothctl: no answer from {url.removeprefix('mqtt://')} (connect: refused")


async def test_a_broker_that_refuses_is_no_answer_either(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, "allow_anonymous false")
    await broker.start()
    try:
        done = await boothctl(tmp_path, "ls", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--wait", "1")
        assert (done.status, done.out) == (3, "")
        assert "not-authorized" in done.err.lower()
    finally:
        await broker.stop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: boothctl"),
        (("fly",), "usage: boothctl"),
        (("show",), "usage: boothctl"),
        (("ls", "--wait", "long"), "usage: boothctl"),
        (("ls",), "which broker? Give --broker URL, set BOOTHCTL_BROKER"),
        (("ls", "--broker", "mqtt://broker.example"), "write mqtts://"),
        (("ls", "--broker", "broker.example"), "write mqtts://HOST:8883"),
        (("ls", "--broker", "foo"), "(here: 'foo'); one on this machine is mqtt://127.0.0.1:PORT"),
        (("ls", "--broker", "mqtt://127.0.0.1:99999"), "write a port"),
        (("--broker", "mqtt://127.0.0.1", "ls"), "write --broker behind ACT, as in: boothctl ACT --broker …"),
        (("ls", "--broker", "mqtt://127.0.0.1", "--wait", "-1"), "write a number of seconds, 0 or more"),
        (("ls", "--broker", "mqtt://127.0.0.1", "--wait", "nan"), "write a number of seconds, 0 or more"),
        (("ls", "--broker", "mqtt://127.0.0.1", "--area", "#"), "write a short name"),
        (("ls", "--broker", "mqtt://127.0.0.1", "--area", "61/61-0007"), "write a short name"),
        (("show", "+", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
        (("show", "#", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
        (("watch", "a/b", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
        (("show", "\x1b[2J", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
    ],
)
async def test_what_it_does_not_understand_is_usage_and_said(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = await boothctl(tmp_path, *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert done.err.replace("\n", "").isprintable()


async def test_a_configuration_file_that_is_broken_is_usage(tmp_path: Path) -> None:
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / "boothctl.toml").write_text("url = \n")
    done = await boothctl(tmp_path, "ls")
    assert (done.status, done.out) == (2, "")
    assert "line 1" in done.err


async def test_version_and_help(tmp_path: Path) -> None:
    assert (await boothctl(tmp_path, "--version")).out == f"boothctl {VERSION}\n"
    help_ = await boothctl(tmp_path, "--help")
    assert help_.status == 0
    for act in ("ls", "show", "watch"):
        assert act in help_.out


async def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    async with a_hundred_booths(tmp_path) as (_, url):
        process = await asyncio.create_subprocess_shell(
            f"{BIN / 'boothctl'} ls --json --broker {url} | head -1; echo ${{PIPESTATUS[0]}}",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path), executable="/bin/bash",
        )  # fmt: skip
        out, err = await process.communicate()
        assert (out.decode().splitlines(), err) == (["[", "0"], b"")
