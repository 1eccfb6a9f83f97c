"""The rule `printing`: what cupsd is told, with stand-ins for the programs. On a real cupsd: tests/privileged/test_pages.py."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.printing import RULE, Printing
from agent.lockdown.rule import COMPLIANT, Ended, Place
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

CUPSD, FILES, LIMITS = "etc/cups/cupsd.conf", "etc/cups/cups-files.conf", "etc/booth-session/printing.json"
THEIRS = {
    CUPSD: "Listen /run/cups/cups.sock\nPreserveJobHistory Yes\n\n<Location />\n</Location>\n",
    FILES: "SystemGroup lpadmin\n",
}
PLACE = Place(queues={"document-printer": "forms"})
COUNT = "systemctl --no-ask-password start booth-pages.service"
RESTART = "systemctl --no-ask-password try-restart cups.service"
ASKED = "systemctl is-active cups.service"
POLICIES = st.builds(Printing, st.integers(0, 1000), st.integers(0, 1000), st.integers(30, 3600), st.booleans())


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    booth = Booth(tmp_path)
    for name, text in THEIRS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / CUPSD).chmod(0o640)
    emptied = tmp_path / "etc/systemd/system/cups.service.d/booth.conf"
    emptied.parent.mkdir(parents=True)
    emptied.touch()
    for name in ("cupsd", "systemctl"):
        booth.program(name)
    queue_says(booth, "forms not accepting requests since …")
    return booth


def queue_says(booth: Booth, line: str) -> None:
    booth.program("lpstat", f"echo '{line}'")


def count(booth: Booth, of_session: int, of_day: int) -> None:
    (booth.root / "var/lib/booth-acts/pages.json").write_text(json.dumps({"of_session": of_session, "of_day": of_day}))


def done(booth: Booth) -> list[str]:
    """What was changed by programs."""
    return [line for line in booth.said if not line.startswith("lpstat") and line != ASKED]


def settle(booth: Booth, policy: Printing) -> None:
    RULE.apply(Machine(booth.root), PLACE, policy)
    assert RULE.measure(Machine(booth.root), PLACE, policy) == COMPLIANT


@given(POLICIES, POLICIES, POLICIES)
def test_the_order(one: Printing, two: Printing, three: Printing) -> None:
    assert not RULE.looser(one, one)
    assert not RULE.looser(one, Printing())
    if not RULE.looser(one, two) and not RULE.looser(two, three):
        assert not RULE.looser(one, three)
    if not RULE.looser(one, two) and not RULE.looser(two, one):
        assert one == two


@given(POLICIES)
def test_whatever_is_more_is_looser(policy: Printing) -> None:
    for name in ("pages_per_session", "pages_per_day", "held_job_s"):
        assert RULE.looser(policy, dataclasses.replace(policy, **{name: getattr(policy, name) + 1}))
    assert RULE.looser(dataclasses.replace(policy, history=False), dataclasses.replace(policy, history=True))


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"pages_per_session": -1}, "pages_per_session"),
        ({"pages_per_day": 1001}, "pages_per_day"),
        ({"held_job_s": 29}, "held_job_s"),
        ({"history": "No"}, "history"),
        ({"quota": 5}, "quota"),
    ],
)
def test_what_may_not_be_written(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(Printing, section)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_cupsd_is_told_after_whatever_else_it_is_told(booth: Booth) -> None:
    settle(booth, Printing(pages_per_session=10, pages_per_day=100, held_job_s=300))
    text = (booth.root / CUPSD).read_text()
    assert text.startswith(THEIRS[CUPSD])
    directives = [line for line in text.removeprefix(THEIRS[CUPSD]).splitlines() if line and not line.startswith("#")]
    assert directives == ["PreserveJobHistory No", "PreserveJobFiles No", "MaxHoldTime 300", "PageLogFormat %P %C"]
    assert f"\nPageLog {booth.root}/var/log/cups/page_log\n" in (booth.root / FILES).read_text()
    assert json.loads((booth.root / LIMITS).read_text()) == {"pages_per_session": 10, "pages_per_day": 100}
    assert (booth.root / CUPSD).stat().st_mode & 0o777 == 0o640
    assert done(booth) == [COUNT, RESTART]


def test_twice_is_once(booth: Booth) -> None:
    settle(booth, Printing())
    before = {file: file.lstat().st_mtime_ns for file in (booth.root / "etc").rglob("*")}, done(booth)
    RULE.apply(Machine(booth.root), PLACE, Printing())
    assert ({file: file.lstat().st_mtime_ns for file in (booth.root / "etc").rglob("*")}, done(booth)) == before


def test_another_policy_takes_the_place_of_the_last(booth: Booth) -> None:
    settle(booth, Printing(held_job_s=300))
    settle(booth, Printing(held_job_s=60, history=True))
    text = (booth.root / CUPSD).read_text()
    assert text.count("MaxHoldTime") == 1
    assert "\nPreserveJobHistory Yes\nPreserveJobFiles No\nMaxHoldTime 60\n" in text


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


DRIFTS: dict[str, Callable[[Path], object]] = {
    "a directive after ours": lambda root: append(root / CUPSD, "PreserveJobHistory Yes\n"),
    "another value": lambda root: (root / CUPSD).write_text(
        (root / CUPSD).read_text().replace("MaxHoldTime 30", "MaxHoldTime 0")
    ),
    "as it was": lambda root: (root / CUPSD).write_text(THEIRS[CUPSD]),
    "another log": lambda root: append(root / FILES, "PageLog syslog\n"),
    "other limits": lambda root: (root / LIMITS).write_text("{}"),
    "no limits": lambda root: (root / LIMITS).unlink(),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_corrected(booth: Booth, drift: str) -> None:
    settle(booth, Printing())
    DRIFTS[drift](booth.root)
    assert RULE.measure(Machine(booth.root), PLACE, Printing()).state == "violated"
    settle(booth, Printing())


@pytest.mark.parametrize(
    ("of_session", "of_day", "state"), [(9, 99, "compliant"), (10, 0, "violated"), (0, 100, "violated"), (12, 120, "violated")]
)
def test_a_queue_that_takes_jobs_after_the_last_page_is_seen(booth: Booth, of_session: int, of_day: int, state: str) -> None:
    policy = Printing(pages_per_session=10, pages_per_day=100)
    settle(booth, policy)
    queue_says(booth, "forms accepting requests since …")
    count(booth, of_session, of_day)
    assert RULE.measure(Machine(booth.root), PLACE, policy).state == state
    before = done(booth)
    RULE.apply(Machine(booth.root), PLACE, policy)
    assert done(booth) == before + ([COUNT] if state == "violated" else [])


def test_where_nothing_may_be_printed_no_count_is_needed_to_say_so(booth: Booth) -> None:
    settle(booth, Printing())
    queue_says(booth, "forms accepting requests since …")
    measured = RULE.measure(Machine(booth.root), PLACE, Printing())
    assert measured.detail == "the queue forms takes more pages than are allowed"


def test_a_cupsd_that_does_not_answer_prints_nothing(booth: Booth) -> None:
    booth.program("lpstat", "echo 'lpstat: Unable to connect' >&2; exit 1")
    settle(booth, Printing())


def test_at_boot_nothing_waits_for_a_cupsd_that_comes_later(booth: Booth) -> None:
    booth.program("systemctl", "echo inactive; exit 3")
    queue_says(booth, "forms accepting requests since …")
    settle(booth, Printing())
    assert "PreserveJobHistory No" in (booth.root / CUPSD).read_text()
    assert set(booth.said) == {ASKED}


def test_in_a_session_cups_is_left_alone(booth: Booth) -> None:
    with pytest.raises(Ended, match="when the session is over"):
        RULE.apply(Machine(booth.root), dataclasses.replace(PLACE, in_session=True), Printing())
    assert (booth.root / CUPSD).read_text() == THEIRS[CUPSD]
    settle(booth, Printing())
    RULE.apply(Machine(booth.root), dataclasses.replace(PLACE, in_session=True), Printing())


def test_cups_is_not_restarted_where_it_would_print_what_was_left(booth: Booth) -> None:
    (booth.root / "etc/systemd/system/cups.service.d/booth.conf").unlink()
    with pytest.raises(Ended, match="would print what was left"):
        RULE.apply(Machine(booth.root), PLACE, Printing())
    assert RESTART not in done(booth)
    assert (booth.root / CUPSD).read_text() == THEIRS[CUPSD]


def test_what_cupsd_has_not_read_does_not_count(booth: Booth) -> None:
    booth.program("systemctl", 'case "$*" in *try-restart*) exit 1 ;; esac')
    with pytest.raises(Ended):
        RULE.apply(Machine(booth.root), PLACE, Printing())
    assert RULE.measure(Machine(booth.root), PLACE, Printing()).state == "violated"
    booth.program("systemctl")
    settle(booth, Printing())


def test_without_cups_it_does_not_apply(booth: Booth) -> None:
    (booth.root / "usr/bin/cupsd").unlink()
    RULE.apply(Machine(booth.root), PLACE, Printing())
    measured = RULE.measure(Machine(booth.root), PLACE, Printing())
    assert (measured.state, measured.detail) == ("not-applicable", "cups is not installed")
    RULE.undo(Machine(booth.root), PLACE)
    assert done(booth) == []


def test_undone_nothing_is_left(booth: Booth) -> None:
    settle(booth, Printing())
    RULE.undo(Machine(booth.root), PLACE)
    assert {name: (booth.root / name).read_text() for name in THEIRS} == THEIRS
    assert not (booth.root / "etc/booth-session").exists()
    assert done(booth)[-2:] == [RESTART, COUNT]
    before = done(booth)
    RULE.undo(Machine(booth.root), PLACE)
    assert done(booth) == before
