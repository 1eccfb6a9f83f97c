"""`boothctl cmd` against a real broker: a real agent, and booths that a test speaks for where no agent would do such a thing."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.documents.signatures import SigningKey
from agent.rules import bundle
from agent.verbs import declared
from tests.boothctl.program import Done, boothctl, environment, say, state
from tests.boothctl.stand_in import now
from tests.commands.technician import begin_session, states
from tests.commands.test_engine import booth
from tests.documents.operator import Operator, key
from tests.world import BIN, World, world

EVIL = "\x1b[2J\x1b]0;owned\x07\u202e"
NOBODY = "mqtt://127.0.0.1:9"  # nothing listens there, and nothing may be asked there


async def cmd(w: World, verb: str, *arguments: object, to: str = "61-0007", status: int = 0) -> Done:
    done = await boothctl(w.folder, "cmd", to, verb, *arguments, BOOTHCTL_BROKER=url(w))
    assert done.status == status, done
    return done


def url(w: World) -> str:
    return f"mqtt://127.0.0.1:{w.broker.port}"


def said(done: Done) -> list[str]:
    return [line.removeprefix("boothctl: ") for line in done.err.splitlines()]


def key_file(w: World, name: str, one: SigningKey) -> Path:
    file = w.folder / name
    file.touch(0o600)
    file.write_bytes(one.to_pem())
    return file


def requests(w: World, verb: str) -> list[Any]:
    return w.observer.of(f"cmd/{verb}/req")


# --- the way of a command ---


async def test_a_command_tells_each_state_and_then_its_result(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        done = await cmd(w, "probe", "receipt-printer", "--by", "tech-7")
        assert said(done) == [f"probe: {word}" for word in ("received", "accepted", "executing", "succeeded")]
        lines = done.out.splitlines()
        assert lines[:4] == ["asked: yes", "status: ok", "codes: –", "facts:"]
        assert "  paper: adequate" in lines
        by_option = await cmd(w, "probe", "--json", "--peripheral", "receipt-printer")
        status = by_option.json
        assert (status["state"], status["verb"], status["result"]["status"]) == ("succeeded", "probe", "ok")
        after_an_option = await cmd(w, "probe", "--json", "board", "--wait", "20")
        assert "temperature_c" in after_an_option.json["result"]["facts"]
        for request in requests(w, "probe"):
            assert (request.retain, 0 < request.expiry_s <= 60) == (False, True), "the broker keeps it for no booth that is away"
        assert [request.json.get("by") for request in requests(w, "probe")] == ["tech-7", None, None]


async def test_a_self_test_is_a_table_and_one_that_fails_is_status_1(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        good = await cmd(w, "self-test")
        rows = {line.split()[0]: line.split() for line in good.out.splitlines()}
        assert list(rows) == ["PERIPHERAL", "board", "booth", "receipt-printer"]
        assert rows["receipt-printer"][1:4] == ["passed", "ok", "–"]
        assert any(line.startswith("self-test: executing, ") and line.endswith(" %") for line in said(good))
        w.printer.change(paper="out")
        await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "no paper")
        bad = await cmd(w, "self-test", "receipt-printer", "board", status=1)
        rows = {line.split()[0]: line.split() for line in bad.out.splitlines()}
        assert rows["receipt-printer"][1:4] == ["FAILED", "fault", "media-empty"]
        assert "booth" not in rows
        assert said(bad)[-1] == "61-0007: self-test failed: not well: receipt-printer"
        assert requests(w, "self-test")[-1].json["args"] == {"peripherals": ["receipt-printer", "board"]}


async def test_what_a_self_test_left_alone_is_told(tmp_path: Path) -> None:
    def answer(verb: str, id_: str) -> list[tuple[str, Any]]:
        found = {"camera": {"passed": None, "status": "ok"}, "board": {"passed": True, "status": "ok"}}
        result = {"left_alone": ["camera"], "peripherals": found}
        return [(f"cmd/{verb}/{id_}/status", status_of(verb, id_, "succeeded", result=result))]

    async with world(tmp_path) as w, answering(w, "61-0008", answer):
        done = await cmd(w, "self-test", to="61-0008")
        assert said(done)[-1] == "not tested: camera (in use, or its answer did not come)"
        assert done.out.startswith("left_alone: camera\n")
        w.observer.problems.clear()


async def test_what_a_booth_refuses_is_status_1_with_its_reason(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        done = await cmd(w, "probe", "toaster", status=1)
        assert done.out == ""
        assert said(done) == [
            "61-0007: probe refused (bad-args): no peripheral 'toaster'; there are receipt-printer, board, booth"
        ]
        as_json = await cmd(w, "test-camera", "receipt-printer", "--json", status=1)
        assert (as_json.json["state"], as_json.json["reason"]) == ("refused", "not-supported")


async def test_it_waits_for_a_citizen_where_it_is_told_to(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        session = begin_session(w)
        refused = await cmd(w, "heal", "receipt-printer", status=1)
        assert "heal refused (session-active)" in said(refused)[-1]
        assert said(refused)[-1].endswith("wait_s lets it wait for the end (--wait-s)")
        waiting = asyncio.create_task(cmd(w, "heal", "receipt-printer", "--remedy", "reopen", "--wait-s", "60", "--id", "c-w"))
        await w.until(lambda: states(w, "heal", "c-w") == ["received", "accepted", "waiting"], "it waits")
        os.close(session)
        done = await waiting
        assert "heal: waiting" in said(done)
        assert "  remedy reopen, outcome cured" in done.out.splitlines()


async def test_a_restart_of_the_agent_is_followed_to_its_end(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        asked = asyncio.create_task(cmd(w, "restart", "agent", "--wait", "60"))
        assert await agent.process.wait() == 0
        await w.start_agent()
        assert said(await asked)[-1] == "restart: succeeded"


async def test_the_same_id_again_says_what_became_of_it(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        first = await cmd(w, "locate", "--duration-s", "1", "--id", "c-1", "--json")
        await w.until(lambda: w.observer.last("led") == "ok", "the end of it")
        again = await cmd(w, "locate", "--duration-s", "300", "--id", "c-1", "--json")
        assert again.json == first.json
        at = first.json["at"]
        assert said(again)[0] == f"there was a command c-1 at {at}, locate succeeded: nothing runs twice under one id"
        assert w.observer.last("led") == "ok"
        other = await cmd(w, "probe", "board", "--id", "c-1", status=1)
        assert said(other)[-1] == f"the id c-1 is that of another command: locate succeeded at {at}"


# --- technicians ---


async def test_a_technicians_command_is_signed_or_carries_the_code_of_the_ticket(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, agent):
        key_file(w, "tech.pem", Operator().first)
        signed = await cmd(w, "maintenance", "--on", "--duration-s", "60", "--sign", "tech.pem", "--by", "tech-7")
        assert signed.out.startswith("on: yes\nuntil: 20")
        assert "payload" in requests(w, "maintenance")[-1].json
        await w.until(lambda: w.observer.last("service/print") == "maintenance", "the service")
        code = agent.ticket_code.new()
        off = await cmd(w, "maintenance", "--on", "false", "--code", f"{code[:4]}-{code[4:]}".lower())
        assert off.out == "on: no\n"
        used = await cmd(w, "maintenance", "--off", "--code", code, status=1)
        assert "maintenance refused (not-signed): " in said(used)[-1]


async def test_a_signature_that_the_booth_does_not_believe_is_told_although_its_answer_has_an_id_of_its_own(
    tmp_path: Path,
) -> None:
    async with booth(tmp_path) as (w, _):
        key_file(w, "stranger.pem", key("stranger"))
        done = await cmd(w, "reboot", "--sign", "stranger.pem", "--wait", "20", status=1)
        assert "reboot refused (untrusted-key): " in said(done)[-1]


async def test_a_waiting_command_is_cancelled(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        key_file(w, "tech.pem", Operator().first)
        session = begin_session(w)
        waiting = asyncio.create_task(cmd(w, "heal", "receipt-printer", "--wait-s", "600", "--id", "c-w", status=1))
        await w.until(lambda: "waiting" in states(w, "heal", "c-w"), "it waits")
        done = await cmd(w, "cancel", "c-w", "--sign", "tech.pem")
        assert done.out == "id: c-w\nstate: cancelled\n"
        assert said(await waiting)[-1] == "61-0007: heal cancelled"
        os.close(session)


# --- usage ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reboot",), "reboot is for a technician: sign it with --sign KEYFILE, or give --code CODE"),
        (("cancel", "c-1", "--sign", "k.pem", "--code", "A"), "--sign or --code: one of them is enough"),
        (("locate", "--duration-s", "301"), "duration_s: write a number from 0 to 300 (here: 301)"),
        (("locate", "--duration-s", "long"), "invalid int value"),
        (("probe",), "peripheral: missing; write a kebab-case name"),
        (("probe", "Board"), "peripheral: write a kebab-case name"),
        (("probe", "board", "--peripheral", "camera"), "peripheral is given twice"),
        (("probe", "board", "camera"), "unrecognized arguments: camera"),
        (("restart", "moon"), "invalid choice: 'moon'"),
        (("maintenance", "--code", "A"), "on: missing; write true or false"),
        (("locate", "5"), "usage: boothctl cmd BOOTH locate [-h]"),
        (("locate", "5"), "unrecognized arguments: 5"),
        (("reboot", "--sign", "nofile.pem"), "nofile.pem: No such file or directory"),
        (("locate", "--wait", "-1"), "write a number of seconds, 0 or more"),
        (("--broker", NOBODY, "locate"), "write --broker behind BOOTH VERB"),
        (("maintenance", "--on", "maybe", "--code", "A"), "write true or false"),
        (("locate", "--id", "c 1"), "id: write 1 to 64 of A-Z"),
        (("locate", "--by", "\u202e"), "by: write who asks"),
        (("locate", "--wait-s", "-1"), "wait_s: write a number from 0 to 86400"),
        (("self-destruct",), "invalid choice: 'self-destruct'"),
        ((), "the following arguments are required: VERB"),
    ],
)
async def test_wrong_usage_is_status_2_before_anything_is_asked(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = await boothctl(tmp_path, "cmd", "61-0007", *arguments, BOOTHCTL_BROKER=NOBODY)
    assert (done.status, done.out) == (2, "")
    assert words in done.err


async def test_all_that_is_wrong_with_a_technicians_command_is_told_at_once(tmp_path: Path) -> None:
    asked = ("maintenance", "--duration-s", "-2", "--wait-s", "-1")
    done = await boothctl(tmp_path, "cmd", "61-0007", *asked, BOOTHCTL_BROKER=NOBODY)
    assert (done.status, done.out) == (2, "")
    assert [line.partition(":")[0] for line in said(done)] == [
        "on", "duration_s", "wait_s",
        "maintenance is for a technician",
    ]  # fmt: skip


async def test_help_says_of_every_verb_what_it_does_and_what_it_takes(tmp_path: Path) -> None:
    help_ = await boothctl(tmp_path, "cmd", "61-0007", "--help")
    assert help_.status == 0
    assert "boothctl cmd BOOTH VERB --help" in " ".join(help_.out.split())
    heal = await boothctl(tmp_path, "cmd", "61-0007", "heal", "--help")
    assert "a remedy of the peripheral's ladder, see docs/healing.md" in " ".join(heal.out.split())
    for name, verb in declared().items():
        assert name in help_.out
        one = await boothctl(tmp_path, "cmd", "61-0007", name, "--help")
        assert one.status == 0
        assert " ".join(verb.does.split()[:4]) in " ".join(one.out.split())
        assert ("--code" in one.out) == verb.technician


# --- no answer ---


async def test_no_such_booth_no_broker_and_no_answer_are_status_3(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        nobody = await cmd(w, "locate", to="61-0099", status=3)
        assert said(nobody) == ["no message of a booth '61-0099' on this broker"]
        say(w, "61-0008", "state", state("lost", services={"print": "unknown"})).wait_for_publish(20)
        lost = await cmd(w, "locate", "--wait", "0.5", "--id", "c-1", to="61-0008", status=3)
        assert said(lost)[0] == "61-0008 is lost: the command is good for 60 s, should it come back"
        assert said(lost)[-1] == (
            "no answer within 0.5 s; nothing was heard of it. boothctl why 61-0008 tells what became of c-1"
        )
    done = await boothctl(tmp_path, "cmd", "61-0007", "locate", "--wait", "0.5", "--broker", NOBODY)
    assert done.status == 3
    assert "no answer from 127.0.0.1:9" in done.err


async def test_an_old_status_of_the_same_id_is_no_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        say(w, "61-0008", "state", state())
        say(w, "61-0008", "cmd/locate/c-1/status", status_of("locate", "c-1", "succeeded")).wait_for_publish(20)
        done = await cmd(w, "locate", "--wait", "0.5", "--id", "c-1", to="61-0008", status=3)
        assert said(done)[0].startswith("there was a command c-1 at ")
        w.observer.problems.clear()  # without expiry


async def test_a_booth_that_left_an_area_is_asked_where_it_is(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        elsewhere = json.dumps(state("lost", services={}))
        w.observer.publish("booth/v1/72/61-0007/state", elsewhere, retain=True)
        assert (await cmd(w, "locate", "--duration-s", "0")).status == 0
        w.observer.publish("booth/v1/72/61-0007/state", json.dumps(state(services={})), retain=True)
        both = await cmd(w, "locate", status=1)
        assert said(both)[0] == "a booth '61-0007' has a state in the areas 61, 72, and may be in any of them"


async def test_a_broker_that_refuses_the_request_says_so(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read booth/#\ntopic write booth/v1/+/+/state\n")
    async with world(tmp_path, broker_extra=f"acl_file {rules}") as w:
        say(w, "61-0008", "state", state()).wait_for_publish(20)
        done = await cmd(w, "locate", to="61-0008", status=1)
        assert said(done) == ["the broker refuses a message at booth/v1/61/61-0008/cmd/locate/req (MQTT reason 0x87)"]


async def test_who_stops_following_leaves_the_command_alone(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        session = begin_session(w)
        process = await asyncio.create_subprocess_exec(
            str(BIN / "boothctl"), "cmd", "61-0007", "heal", "receipt-printer", "--remedy", "reopen",
            "--wait-s", "60", "--id", "c-w",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(tmp_path) | {"BOOTHCTL_BROKER": url(w)},
        )  # fmt: skip
        assert process.stderr is not None
        while b"waiting" not in await asyncio.wait_for(process.stderr.readline(), 30):
            pass
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out) == (3, b"")
        assert err.decode() == (
            "boothctl: no longer followed; it is waiting, and goes on without this: "
            "boothctl why 61-0007 tells what became of c-w\n"
        )
        os.close(session)
        await w.until(lambda: "succeeded" in states(w, "heal", "c-w"), "it was done all the same")


async def test_who_stops_before_it_was_sent_is_told_so(tmp_path: Path) -> None:
    called = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        called.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "boothctl"), "cmd", "61-0007", "locate", "--wait", "120",  # a loaded machine may be slow to stop it
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(tmp_path) | {"BOOTHCTL_BROKER": f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"},
        )  # fmt: skip
        await asyncio.wait_for(called.wait(), 30)
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"boothctl: nothing was sent\n")
        assert process.returncode == 3


# --- a terminal ---


async def test_at_a_terminal_progress_is_a_line_that_moves(tmp_path: Path) -> None:
    async with world(tmp_path) as w, answering(w, "61-0008", _halfway):
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            str(BIN / "boothctl"), "cmd", "61-0008", "self-test",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
            env=environment(tmp_path) | {"BOOTHCTL_BROKER": url(w), "COLUMNS": "80"},
        )  # fmt: skip
        os.close(theirs)
        out, _ = await process.communicate()
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: the other side has left
            while piece := os.read(ours, 4096):
                drawn += piece
        os.close(ours)
        assert (process.returncode, out) == (0, b"on: yes\n")
        lines = drawn.decode().split("\r\x1b[K")
        assert f"[{'█' * 12}{'·' * 12}]  50 %  self-test: executing, half" in lines
        assert lines[-1] == "self-test: succeeded\r\n"
        w.observer.problems.clear()


async def test_nothing_that_a_booth_answers_can_command_the_terminal(tmp_path: Path) -> None:
    def answer(verb: str, id_: str) -> list[tuple[str, Any]]:
        evil = {
            "message": EVIL,
            EVIL: EVIL,
            "a": [EVIL],
            "b": {EVIL: [EVIL]},
            "c": [{EVIL: EVIL}],
            "peripherals": {EVIL: {"passed": EVIL}},
        }
        topic = f"cmd/{verb}/{id_}/status"
        return [
            (topic, status_of(verb, id_, "executing", step=EVIL, pct=10**9)),
            (topic, b"[" * 10_000),
            (topic, json.dumps({"state": EVIL})),
            (f"cmd/{verb}/c-other/status", status_of(verb, "c-other", "succeeded")),
            (topic, status_of(verb, id_, "failed", result=evil)),
        ]

    async with world(tmp_path) as w, answering(w, "61-0008", answer):
        for options in ((), ("--json",)):
            done = await cmd(w, "self-test", *options, to="61-0008", status=1)
            assert (done.out + done.err).replace("\n", "").isprintable()
            assert "self-test failed" in done.err
        w.observer.problems.clear()


# --- diagnostics ---


async def test_a_bundle_is_put_together_and_found_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as w, answering(w, "61-0008", _bundle()):
        done = await cmd(w, "diagnostics", "-o", "x.json.gz", "--max-bytes", "100000", to="61-0008")
        assert done.out.splitlines()[-1] == "written to x.json.gz"
        assert json.loads(gzip.decompress((tmp_path / "x.json.gz").read_bytes())) == {"lines": _LINES}
        assert "diagnostics: piece 8 of 8, 100 %" in said(done)
        assert [path.name for path in tmp_path.glob("*diagnostics*")] == []
        named = await cmd(w, "diagnostics", "--json", to="61-0008")
        [file] = tmp_path.glob("61-0008-diagnostics-20*Z.json.gz")
        assert named.json["file"] == file.name
        w.observer.problems.clear()


async def test_a_bundle_that_is_not_whole_is_status_1_and_leaves_no_file(tmp_path: Path) -> None:
    cases = {
        "a piece less": (_bundle(lose=2), "no file was written: 1 of 8 pieces did not come (2): ask again"),
        "another hash": (_bundle(sha256="0" * 64), "no file was written: the hash is not the one that the booth says: ask again"),
        "no pieces": (_bundle(lose=-1), "no file was written: 8 of 8 pieces did not come (0, 1, 2, 3, 4 …): ask again"),
    }
    async with world(tmp_path) as w:
        for what, (answer, words) in cases.items():
            async with answering(w, "61-0008", answer):
                done = await cmd(w, "diagnostics", "--wait", "60", to="61-0008", status=1)
                assert said(done)[-1] == words, what
        assert list(tmp_path.glob("*.gz")) == []
        w.observer.problems.clear()


async def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"precious")
    (tmp_path / "link.gz").symlink_to("nowhere")
    for name, words in (
        ("x.gz", "there is a file already"),
        ("link.gz", "there is a file already"),
        ("no/x.gz", "there is no folder no"),
    ):
        done = await boothctl(tmp_path, "cmd", "61-0007", "diagnostics", "-o", name, BOOTHCTL_BROKER=NOBODY)
        assert (done.status, done.out) == (2, "")
        assert words in done.err
    assert (tmp_path / "x.gz").read_bytes() == b"precious"


# --- a booth that a test speaks for ---

Answer = Callable[[str, str], list[tuple[str, Any]]]  # to a verb and an id: topics and payloads, in order
_LINES = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(1600)]  # 61 kB that do not compress well


def status_of(verb: str, id_: str, word: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id_, "verb": verb, "state": word, "step": None, "pct": None,
        "reason": None, "result": None, "by": None, "at": now(),
    } | changes  # fmt: skip


def _halfway(verb: str, id_: str) -> list[tuple[str, Any]]:
    topic = f"cmd/{verb}/{id_}/status"
    return [
        (topic, status_of(verb, id_, "executing", step="half", pct=50)),
        (topic, status_of(verb, id_, "succeeded", result={"on": True})),
    ]


def _bundle(lose: int | None = None, **changes: Any) -> Answer:
    """The status comes before the pieces, the last piece first, and each twice. `lose`: the number of one, or -1 for all."""
    whole = gzip.compress(json.dumps({"lines": _LINES}).encode())
    size = bundle.CHUNK_BYTES
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    result = {
        "chunks": len(pieces),
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "format": "json+gzip",
    } | changes

    def answer(verb: str, id_: str) -> list[tuple[str, Any]]:
        said: list[tuple[str, Any]] = [(f"cmd/{verb}/{id_}/status", status_of(verb, id_, "succeeded", result=result))]
        for number, piece in reversed(list(enumerate(pieces))):
            if lose not in (number, -1):
                said += [(f"cmd/{verb}/{id_}/chunk/{number}", bundle.chunk(piece, number, len(pieces)))] * 2
        return said

    return answer


@contextlib.asynccontextmanager
async def answering(w: World, booth_id: str, answer: Answer) -> AsyncIterator[None]:
    """A booth that is online, and answers each request."""
    say(w, booth_id, "state", state()).wait_for_publish(20)

    async def answer_all() -> None:
        done = len(w.observer.messages)
        while True:
            for seen in w.observer.messages[done:]:
                done += 1
                parts = seen.topic.split("/")
                if parts[3] == booth_id and parts[-1] == "req":
                    for topic, payload in answer(parts[-2], seen.json["id"]):
                        say(w, booth_id, topic, payload, retain="status" in topic)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(answer_all())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
