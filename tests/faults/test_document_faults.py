"""Rows 13 to 16, 34, 36 to 38, 48 and 56 of the fault catalogue: what an operator, an attacker or a network makes of a document.

Over a real broker, on a running agent, which serves many documents. Rows 19, 39 and 40: `tests/test_configuration.py`; the same
for what root judges: `tests/privileged/test_lockdown.py`.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent.app import Agent
from agent.contract.documents import CONFIG_SECTIONS
from agent.documents.judge import payload_type
from agent.documents.signatures import seal
from agent.machine import Machine
from agent.overlay import with_accepted
from agent.peripherals import declared
from agent.settings import data_of, read
from tests.documents.operator import key
from tests.documents.published import BOOTH, GOOD, OPERATOR, PLACES, answer, codes, configured, flipped, publish, said
from tests.faults.test_clock_faults import YEAR_S, JumpingTimes
from tests.world import World, world


async def all_refused(w: World, good: Any, cases: dict[str, tuple[str, bytes]], kind: str = "config") -> None:
    """Each of them with its code and nothing changed; and then a good one is taken as ever."""
    for name, (code, envelope) in cases.items():
        report = await answer(w, envelope, kind)
        assert (name, report["status"], set(codes(report))) == (name, "rejected", {code})
        if kind == "config":
            assert (report["effective_sha256"], report["sections"]) == (good["effective_sha256"], good["sections"]), name
            assert report["layers"]["booth"]["applied_rev"] == 5, name
    assert w.observer.last("state")["state"] == "online"
    if kind == "config":
        last = await answer(w, OPERATOR.sign("config", {"reporting": {"telemetry_s": 301}}, rev=6))
        assert (last["status"], last["errors"]) == ("applied", [])


def payload(doc: Any = None, **over: Any) -> bytes:
    return json.dumps(OPERATOR.statement({} if doc is None else doc, 6) | over).encode()


def sealed(inside: bytes, kind: str = "config") -> bytes:
    return seal(payload_type(kind), inside, [OPERATOR.first])


async def test_f13_bad_utf8_outside_and_inside(tmp_path: Path) -> None:
    async with configured(tmp_path) as (w, good):
        whole = OPERATOR.sign("config", {}, rev=6)
        cases = {
            "in the type": ("bad-envelope", whole.replace(b"vnd.booth", b"vnd.b\xf6\xf6th")),
            "UTF-16": ("bad-envelope", whole.decode().encode("utf-16")),
            "a byte order mark": ("bad-envelope", b"\xef\xbb\xbf" + whole),
            "no text at all": ("bad-envelope", bytes(range(256))),
            "Latin-1 inside": ("bad-json", sealed(payload({"hours": {"tz": "x"}}).replace(b'"x"', b'"\xe9"'))),
            "half a character inside": ("bad-json", sealed(payload({"hours": {"tz": "x"}}).replace(b'"x"', b'"\xc3"'))),
            "a surrogate as bytes inside": ("bad-json", sealed(payload({"a": "x"}).replace(b'"x"', b'"\xed\xa0\x80"'))),
            "UTF-16 inside": ("bad-json", sealed(payload().decode().encode("utf-16-le"))),
        }
        await all_refused(w, good, cases)


async def test_f14_nesting_of_100000(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    async with configured(tmp_path) as (w, good):
        cases = {
            "outside": ("bad-envelope", deep),
            "beside the payload": ("bad-envelope", OPERATOR.sign("config", {}, rev=6)[:-1] + b',"more":' + deep),
            "inside": ("bad-json", sealed(deep)),
            "closed": ("bad-json", sealed(deep + b"]" * 100_000)),
            "objects": ("bad-json", sealed(b'{"a":' * 40_000)),
            "in the document": ("bad-json", sealed(payload({"hours": 0}).replace(b'"hours": 0', b'"hours": ' + deep))),
            "33 levels": ("bad-json", sealed(payload({"hours": 0}).replace(b"0}", b"[" * 31 + b"]" * 31 + b"}", 1))),
        }
        await all_refused(w, good, cases)
        await all_refused(w, good, {"a policy": ("bad-json", sealed(deep, "policy"))}, "policy")
        await all_refused(w, good, {"an update": ("bad-json", sealed(deep, "update"))}, "update")


async def test_f15_duplicate_keys_nan_surrogates_true_for_one(tmp_path: Path) -> None:
    def inside(old: bytes, new: bytes) -> bytes:
        whole = payload({"reporting": {"telemetry_s": 60}, "hours": {"tz": "Z"}})
        assert whole.count(old) == 1
        return sealed(whole.replace(old, new))

    async with configured(tmp_path) as (w, good):
        number = b'"telemetry_s": 60'
        cases = {
            "a key twice": ("bad-json", inside(number, number + b', "telemetry_s": 61')),
            "the same key, escaped": ("bad-json", inside(number, number + b', "\\u0074elemetry_s": 61')),
            "the revision twice": ("bad-json", inside(b'"rev": 6', b'"rev": 6, "rev": 7')),
            "NaN": ("bad-json", inside(b"60", b"NaN")),
            "Infinity": ("bad-json", inside(b"60", b"-Infinity")),
            "1e999": ("bad-json", inside(b"60", b"1e999")),
            "5,000 digits": ("bad-json", inside(b"60", b"6" * 5000)),
            "half a surrogate pair": ("bad-json", inside(b'"Z"', b'"\\ud800"')),
            "the other half, as a key": ("bad-json", inside(b'"tz"', b'"\\udfff"')),
            "true for 1: schema": ("invalid", sealed(payload(schema=True))),
            "true for 1: rev": ("invalid", sealed(payload(rev=True))),
            "true for 1: epoch": ("invalid", sealed(payload(epoch=True))),
            "true for a number": ("invalid", inside(b"60", b"true")),
            "a number for true": ("invalid", sealed(payload({"heal": {"enabled": 1}}))),
            "a digit more than a number has": ("invalid", inside(b"60", b"60.5")),
            "a 13th month": ("invalid", sealed(payload(not_after="2027-13-01T00:00:00.000Z"))),
        }
        await all_refused(w, good, cases)


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
_unknown = st.dictionaries(st.text(max_size=9).map(lambda text: f"X{text}"), _values, min_size=1, max_size=3)
_wrong = st.one_of(
    # No section is anything but a table, and none is called so.
    st.dictionaries(st.sampled_from(CONFIG_SECTIONS), _scalars | st.lists(_values, max_size=3), min_size=1, max_size=3),
    _unknown,
    _unknown.map(lambda keys: {"reporting": keys}),
    _values.filter(lambda value: not _seconds(value)).map(lambda value: {"reporting": {"telemetry_s": value}}),
)


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 5 <= value <= 86400


@settings(deadline=None, max_examples=2, phases=[Phase.generate], derandomize=True)
@given(st.lists(_wrong, min_size=8, max_size=8))
def test_f16_wrong_type_unknown_key_unknown_schema(documents: list[dict[str, Any]]) -> None:
    async def publish_them() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with configured(Path(folder)) as (w, good):
                cases = {json.dumps(document): ("invalid", sealed(payload(document))) for document in documents}
                for version in (0, 2, -1, 2**60):
                    cases[f"schema {version}"] = ("unsupported", sealed(payload(schema=version)))
                for other in (None, "1", [1], 1.5):
                    cases[f"schema {other!r}"] = ("invalid", sealed(payload(schema=other)))
                cases["a key more"] = ("invalid", sealed(payload(more=1)))
                await all_refused(w, good, cases)

    asyncio.run(publish_them())


async def test_f34_clock_ten_years_ahead(tmp_path: Path) -> None:
    """What is in force stays, is told to be stale, and counts again as it was; what would be new and is over is refused."""
    times = JumpingTimes()
    async with world(tmp_path) as w:
        OPERATOR.install(tmp_path)
        file = w.write_config()
        good = OPERATOR.sign("config", GOOD, rev=5, not_after="2030-01-01T00:00:00.000Z")
        async with _running(w, file, times):
            fresh = await answer(w, good)
            assert fresh["status"] == "applied"
            times.offset_s = 10 * YEAR_S
            late = await answer(w, OPERATOR.sign("config", {}, rev=6, not_after="2030-01-01T00:00:00.000Z"))
            assert (late["status"], codes(late)) == ("rejected", ["expired"])
            stale = await answer(w, good)
            assert (stale["status"], stale["errors"]) == ("stale", [])
            for report in (late, stale):
                assert report["sections"] == fresh["sections"], "nothing is wiped, and nothing loosened"
                assert report["layers"]["booth"]["applied_rev"] == 5
            replayed = await answer(w, OPERATOR.sign("config", {}, rev=4))
            assert codes(replayed) == ["rollback"]
            await answer(w, good)
        already = len(said(w))
        async with _running(w, file, times):  # and it starts with that clock
            again = await w.until(lambda: [*said(w)[already:], None][0], "what is in force")
            assert (again["status"], again["sections"]) == ("stale", fresh["sections"])
            taken = await answer(w, OPERATOR.sign("config", {"reporting": {"telemetry_s": 301}}, rev=6))
            assert (taken["status"], taken["sections"]["reporting"]["value"]["telemetry_s"]) == ("applied", 301)
        times.offset_s = 0.0
        async with _running(w, file, times):  # and when the cause is gone, nothing of it stays
            assert w.observer.last("state")["clock"] == "synced"
            later = OPERATOR.sign("config", {"reporting": {"telemetry_s": 302}}, rev=7, not_after="2030-01-01T00:00:00.000Z")
            assert (await answer(w, later))["status"] == "applied"


@asynccontextmanager
async def _running(w: World, file: Path, times: JumpingTimes) -> AsyncIterator[None]:
    stop = asyncio.Event()
    already = len(w.observer.of("state"))
    local = data_of(file)
    settings = read(with_accepted(local, w.state_dir) or local, declared(), file.parent)
    running = asyncio.create_task(Agent(settings, w.state_dir, Machine(times=times)).run(stop))
    try:
        await w.until(lambda: any(m.json["state"] == "online" for m in w.observer.of("state")[already:]), "online")
        yield
    finally:
        stop.set()
        await running


def event_of(w: World, class_: str, code: str) -> Any:
    return next((event for event in w.observer.events() if (event["class"], event["code"]) == (class_, code)), None)


async def test_f36_bad_signature(tmp_path: Path) -> None:
    async with configured(tmp_path) as (w, good):
        for kind in ("config", "policy", "update"):
            whole = OPERATOR.sign(kind, {}, rev=6)
            other = json.loads(whole) | {"signatures": json.loads(OPERATOR.sign(kind, {}, rev=7))["signatures"]}
            cases = {
                "a bit of the payload": ("bad-signature", flipped(whole, "payload")),
                "a bit of the signature": ("bad-signature", flipped(whole, "signature")),
                "that of another document": ("bad-signature", json.dumps(other).encode()),
                "no bytes": ("bad-signature", json.dumps(json.loads(whole) | {"payload": ""}).encode()),
                "somebody": ("untrusted-key", OPERATOR.sign(kind, {}, rev=6, keys=[key("thief")])),
                "a root key": ("untrusted-key", OPERATOR.sign(kind, {}, rev=6, keys=OPERATOR.roots)),
                "nobody": ("untrusted-key", OPERATOR.sign(kind, {}, rev=6, keys=[])),
            }
            await all_refused(w, good, cases, kind)
            event = await w.until(partial(event_of, w, kind, "bad-signature"), f"an event of class {kind}")
            assert event["data"]["layer"] == "booth"
            assert w.observer.last(f"{kind}/reported")["layers"]["booth"] == (
                {"seen_rev": 6, "applied_rev": 6} if kind == "config" else None
            ), "nobody without a key moves what was seen"


async def test_f37_right_key_wrong_audience(tmp_path: Path) -> None:
    audiences = [
        "booth/v1/61/61-0008", "booth/v1/62/61-0007", PLACES["area"], PLACES["fleet"], f"{BOOTH}/config/desired", f"{BOOTH}/", "",
        "booth/v1/+/61-0007", "booth/v1/#", BOOTH.upper(), f"{BOOTH} ", f"{BOOTH}\n", f"{BOOTH}\x00", "booth/v1/61/61-000７",
    ]  # fmt: skip
    async with configured(tmp_path) as (w, good):
        for audience in audiences:
            report = await answer(w, OPERATOR.sign("config", {}, rev=6, audience=audience))
            assert set(codes(report)) <= {"wrong-audience", "invalid"}, audience
            assert report["errors"][0]["path"] == "audience"
            assert (report["status"], report["sections"]) == ("rejected", good["sections"]), audience
            assert report["layers"]["booth"] == {"seen_rev": 5, "applied_rev": 5}, "what is for another was not seen here"
        for layer in ("fleet", "area"):  # what is for this booth is nothing to its area
            report = await answer(w, OPERATOR.sign("config", {"reporting": {"telemetry_s": 99}}, rev=6), layer=layer)
            assert (report["status"], report["layers"][layer]) == ("rejected", None)
            assert (layer, "wrong-audience") in [(error["layer"], error["code"]) for error in report["errors"]]
        already = len(said(w))
        for place in ("booth/v1/62/_all", "booth/v1/62/62-0001", "booth/v1/61/61-0008", "booth/v1/_all/61-0007"):
            w.observer.publish(f"{place}/config/desired", OPERATOR.sign("config", {}, rev=9, audience=place), retain=True)
        last = await answer(w, OPERATOR.sign("config", {"reporting": {"telemetry_s": 301}}, rev=6))
        assert len(said(w)) == already + 1, "what is published elsewhere is not answered at all"
        assert last["layers"]["booth"] == {"seen_rev": 6, "applied_rev": 6}
        assert last["sections"]["reporting"]["value"]["telemetry_s"] == 301


async def test_f38_replay_of_a_lower_rev(tmp_path: Path) -> None:
    async with configured(tmp_path) as (w, good):
        cases = {
            "the one before": ("rollback", OPERATOR.sign("config", {"reporting": {"telemetry_s": 60}}, rev=4)),
            "the first": ("rollback", OPERATOR.sign("config", {}, rev=0)),
            "the same revision with other contents": ("conflict", OPERATOR.sign("config", {}, rev=5)),
            "with two signatures": ("rollback", OPERATOR.sign("config", {}, rev=4, keys=OPERATOR.both)),
            "of an epoch that is over": ("rollback", OPERATOR.sign("config", {}, rev=9, epoch=0)),
        }
        await all_refused(w, good, cases)
        [agent] = w.agents
        await agent.stop()
        await w.start_agent()  # it is not forgotten
        publish(w, "booth", OPERATOR.sign("config", GOOD, rev=5))
        report = await w.until(lambda: codes(said(w)[-1]) == ["rollback"] and said(w)[-1], "refused after the start too")
        assert report["layers"]["booth"] == {"seen_rev": 6, "applied_rev": 6}


@pytest.mark.parametrize("name", ["state.json", "state-copy.json", "*.dsse"])
async def test_f48_a_file_of_the_accepted_configuration_is_empty_at_the_start(tmp_path: Path, name: str) -> None:
    async with configured(tmp_path) as (w, good):
        [agent] = w.agents
        await agent.kill()
        for file in (w.state_dir / "documents/config").glob(name):
            file.write_bytes(b"")
        await w.start_agent()
        publish(w, "booth", OPERATOR.sign("config", {}, rev=4))
        report = await w.until(lambda: codes(said(w)[-1]) == ["rollback"] and said(w)[-1], "the ratchet holds")
        assert report["layers"]["booth"]["applied_rev"] == 5
        if name != "*.dsse":  # whose contents nobody knows any more: it is said again by the broker
            assert report["sections"] == good["sections"]
        report = await answer(w, OPERATOR.sign("config", GOOD, rev=5))
        assert (report["status"], report["sections"], report["errors"]) == ("applied", good["sections"], [])


async def test_f56_an_old_update_desired_served_for_ever(tmp_path: Path) -> None:
    """A broker, or who took it over, that withholds what is new shows: the booth's `seen_rev` stays behind."""
    async with world(tmp_path) as w:
        OPERATOR.install(tmp_path)
        agent = await w.start_agent()
        old = OPERATOR.sign("update", {"agent": {"version": "1.0.0"}}, rev=5)
        for _ in range(3):
            report = await answer(w, old, "update")
            assert report["layers"] == {"fleet": None, "area": None, "booth": {"seen_rev": 5, "applied_rev": None}}
        await agent.stop()
        already = len(said(w, "update"))
        await w.start_agent()  # the broker serves it again
        report = await w.until(lambda: [*said(w, "update")[already:], None][0], "an answer after the start")
        assert report["layers"]["booth"] == {"seen_rev": 5, "applied_rev": None}
        newer = await answer(w, OPERATOR.sign("update", {"agent": {"version": "1.1.0"}}, rev=8), "update")
        assert newer["layers"]["booth"] == {"seen_rev": 8, "applied_rev": None}
        report = await answer(w, old, "update")
        assert report["layers"]["booth"]["seen_rev"] == 8, "what was once seen is not forgotten"
