"""The rule `session`: the times for the kiosk's application, and that nothing of a session is left."""

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.rule import COMPLIANT, Place
from agent.lockdown.session import LOCK, RULE, Left, Session
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

LIMITS = "etc/booth-session/limits.json"
PROFILE, SCANS = "home/kiosk/.config/chromium", "var/spool/booth-scans"
PLACE = Place(wiped={"browser-profile": (f"/{PROFILE}",), "scans": (f"/{SCANS}",)})
KEEP = st.lists(st.sampled_from(get_args(Left)), max_size=3).map(tuple)
POLICIES = st.builds(Session, st.integers(60, 1800), st.integers(90, 3600), st.integers(600, 14400), KEEP)


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    booth = Booth(tmp_path)
    (tmp_path / "usr/bin/find").symlink_to("/usr/bin/find")
    lock = tmp_path / LOCK
    lock.parent.mkdir()
    lock.touch()
    for folder in (PROFILE, SCANS):
        (tmp_path / folder).mkdir(parents=True)
    return booth


@pytest.fixture
def citizen(booth: Booth) -> Iterator[None]:
    descriptor = os.open(booth.root / LOCK, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def settle(booth: Booth, policy: Session, place: Place = PLACE) -> None:
    RULE.apply(Machine(booth.root), place, policy)
    assert RULE.measure(Machine(booth.root), place, policy) == COMPLIANT


def leave(booth: Booth, *names: str) -> None:
    for name in names:
        (booth.root / name).parent.mkdir(parents=True, exist_ok=True)
        (booth.root / name).write_text("canary-0e7f")


@given(POLICIES, POLICIES, POLICIES)
def test_the_order(one: Session, two: Session, three: Session) -> None:
    assert not RULE.looser(one, one)
    assert not RULE.looser(one, Session())
    if not RULE.looser(one, two) and not RULE.looser(two, three):
        assert not RULE.looser(one, three)
    if not RULE.looser(one, two) and not RULE.looser(two, one):
        assert (one.warned_s, one.idle_wipe_s, one.longest_s, set(one.keep)) == (
            two.warned_s, two.idle_wipe_s, two.longest_s, set(two.keep),
        )  # fmt: skip


@given(POLICIES)
def test_whatever_lasts_longer_or_is_kept_is_looser(policy: Session) -> None:
    for longer in ("idle_wipe_s", "longest_s"):
        assert RULE.looser(policy, dataclasses.replace(policy, **{longer: getattr(policy, longer) + 1}))
    every: tuple[Left, ...] = get_args(Left)
    for name in (name for name in every if name not in policy.keep):
        assert RULE.looser(policy, dataclasses.replace(policy, keep=(*policy.keep, name)))


@given(POLICIES)
def test_a_citizen_is_warned_before_everything_is_wiped(policy: Session) -> None:
    assert policy.warned_s <= policy.idle_wipe_s - 15


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"idle_warn_s": 59}, "idle_warn_s"),
        ({"idle_wipe_s": 89}, "idle_wipe_s"),
        ({"idle_wipe_s": "90"}, "idle_wipe_s"),
        ({"longest_s": 14401}, "longest_s"),
        ({"keep": ["cookies"]}, "keep[0]"),
        ({"keep": ["scans"] * 9}, "keep"),
        ({"wiped": {}}, "wiped"),
    ],
)
def test_what_may_not_be_written(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(Session, section)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_the_kiosk_can_read_the_times_and_nobody_but_root_writes_them(booth: Booth) -> None:
    before = os.umask(0o077)  # as root's units have it
    try:
        settle(booth, Session(idle_warn_s=180, idle_wipe_s=240, longest_s=2700, keep=("spool", "spool")))
    finally:
        os.umask(before)
    file = booth.root / LIMITS
    assert json.loads(file.read_text()) == {"idle_warn_s": 180, "idle_wipe_s": 240, "longest_s": 2700, "keep": ["spool"]}
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o644, 0o755)


def test_twice_is_once(booth: Booth) -> None:
    settle(booth, Session())
    before = {file: file.lstat().st_mtime_ns for file in booth.root.rglob("*")}
    RULE.apply(Machine(booth.root), PLACE, Session())
    assert {file: file.lstat().st_mtime_ns for file in booth.root.rglob("*")} == before
    assert booth.said == []


def link(place: Path, target: Path) -> None:
    place.symlink_to(target)


DRIFTS: dict[str, Callable[[Path], object]] = {
    "other times": lambda root: (root / LIMITS).write_text('{"longest_s": 99999}'),
    "no file": lambda root: (root / LIMITS).unlink(),
    "a link": lambda root: link(root / LIMITS, (root / LIMITS).rename(root / "other")),
    "a file that others write": lambda root: (root / LIMITS).chmod(0o666),
    "a folder that others write": lambda root: (root / LIMITS).parent.chmod(0o777),
    "something that was left": lambda root: (root / SCANS / "page.png").touch(),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_corrected(booth: Booth, drift: str) -> None:
    settle(booth, Session())
    DRIFTS[drift](booth.root)
    assert RULE.measure(Machine(booth.root), PLACE, Session()).state == "violated"
    settle(booth, Session())


def test_what_is_left_is_named_as_in_roots_table_and_wiped(booth: Booth) -> None:
    RULE.apply(Machine(booth.root), PLACE, Session())
    leave(booth, f"{PROFILE}/Default/Cookies", f"{PROFILE}/.hidden", f"{SCANS}/Jeanne-Dupont.pdf")
    measured = RULE.measure(Machine(booth.root), PLACE, Session())
    assert (measured.state, measured.detail) == ("violated", "left of a session: browser-profile, scans")
    settle(booth, Session())
    assert not list((booth.root / PROFILE).iterdir())


def test_what_the_policy_keeps_is_kept(booth: Booth) -> None:
    leave(booth, f"{PROFILE}/Cookies", f"{SCANS}/page.png")
    settle(booth, Session(keep=("browser-profile",)))
    assert (booth.root / PROFILE / "Cookies").exists()
    assert not (booth.root / SCANS / "page.png").exists()


def test_in_a_session_nothing_is_deleted_and_nothing_is_looked_at(booth: Booth) -> None:
    leave(booth, f"{SCANS}/page.png")
    settle(booth, Session(), dataclasses.replace(PLACE, in_session=True))
    assert (booth.root / SCANS / "page.png").exists()


@pytest.mark.usefixtures("citizen")
def test_nor_in_one_that_began_since_root_looked(booth: Booth) -> None:
    leave(booth, f"{SCANS}/page.png")
    RULE.apply(Machine(booth.root), PLACE, Session())
    assert (booth.root / SCANS / "page.png").exists()


@pytest.mark.parametrize("link", ["home/kiosk", "home/kiosk/.config", PROFILE])
def test_who_owns_the_folder_does_not_lead_root_elsewhere(booth: Booth, link: str) -> None:
    elsewhere = booth.root / "elsewhere"
    leave(booth, *(f"elsewhere/{below}precious" for below in ("", "chromium/", ".config/chromium/")))
    (booth.root / PROFILE).rmdir()
    if link != PROFILE:
        (booth.root / "home/kiosk/.config").rmdir()
    if link == "home/kiosk":
        (booth.root / link).rmdir()
    (booth.root / link).symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        RULE.apply(Machine(booth.root), PLACE, Session())
    assert len(list(elsewhere.rglob("precious"))) == 3
    measured = RULE.measure(Machine(booth.root), PLACE, Session())
    assert measured.detail == "left of a session: browser-profile"


def test_a_link_that_was_left_goes_and_where_it_leads_stays(booth: Booth) -> None:
    leave(booth, "elsewhere/precious")
    (booth.root / SCANS / "link").symlink_to(booth.root / "elsewhere")
    settle(booth, Session())
    assert (booth.root / "elsewhere/precious").exists()


def test_a_folder_that_is_not_there_holds_nothing(booth: Booth) -> None:
    (booth.root / SCANS).rmdir()
    settle(booth, Session())
    assert not (booth.root / SCANS).exists()


def test_undone_nothing_is_left(booth: Booth) -> None:
    settle(booth, Session())
    RULE.undo(Machine(booth.root), PLACE)
    assert not (booth.root / "etc/booth-session").exists()
    RULE.undo(Machine(booth.root), PLACE)
