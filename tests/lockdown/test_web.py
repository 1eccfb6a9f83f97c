"""The rule `web`: what a policy may say, which of two is looser, and that Chromium's folders hold it and nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build, plain
from agent.lockdown.rule import Place
from agent.lockdown.web import RULE, Web
from agent.privileged.machine import Machine
from tests.lockdown.owners import no_owner_is_changed, only_root
from tests.privileged.booth import Booth

PLACE = Place()
MANAGED = ("etc/chromium/policies/managed", "etc/chromium-browser/policies/managed")
FILE = "booth-web.json"
PART = Web(groups={"caf": ("caf.fr", "https://visio.example.org")}, allow=("caf",), printing=True, uploads=True)

HOSTS = ("caf.fr", "connect.caf.fr", "fr.caf", "127.0.0.1", "localhost")
SITES = st.one_of(
    st.just("*"),
    st.builds(
        "{}{}{}".format, st.sampled_from(("", "http://", "https://")), st.sampled_from(HOSTS), st.sampled_from(("", ":8443"))
    ),
)
ORIGINS = st.sampled_from(("https://caf.fr", "https://caf.fr:443", "https://visio.example.org", "http://localhost:81", "*"))
PARTS = st.builds(
    Web,
    groups=st.fixed_dictionaries({"one": st.lists(SITES, max_size=3).map(tuple), "two": st.lists(SITES, max_size=2).map(tuple)}),
    allow=st.lists(st.sampled_from(("one", "two")), max_size=2, unique=True).map(tuple),
    downloads=st.booleans(),
    uploads=st.booleans(),
    developer_tools=st.booleans(),
    incognito=st.booleans(),
    printing=st.booleans(),
    camera_origins=st.lists(ORIGINS, max_size=2).map(tuple),
)


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    booth = Booth(tmp_path)
    booth.program("chromium")
    (tmp_path / "usr/bin/find").symlink_to("/usr/bin/find")
    return booth


@pytest.fixture
def machine(booth: Booth) -> Machine:
    return Machine(booth.root)


def written(machine: Machine, folder: str = MANAGED[0]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((machine.path(folder) / FILE).read_text())
    return said


def seen(machine: Machine) -> dict[str, tuple[int, int]]:
    return {str(file): (file.lstat().st_ino, file.lstat().st_mtime_ns) for file in machine.path("etc").rglob("*")}


# --- the order ---


@given(PARTS)
def test_nothing_is_looser_than_itself_and_the_default_than_nothing(part: Web) -> None:
    assert not RULE.looser(part, part)
    assert not RULE.looser(part, Web())


@given(PARTS, PARTS, PARTS)
def test_what_is_not_looser_step_by_step_is_not_looser_in_all(one: Web, two: Web, three: Web) -> None:
    if not RULE.looser(one, two) and not RULE.looser(two, three):
        assert not RULE.looser(one, three)


def effect(part: Web) -> Any:
    """What of a part changes anything: of the open sites, those that no other one has in it."""
    sites = {site for group in part.allow for site in part.groups[group]}
    alone = {site for site in sites if not any(site != other and not RULE.looser(only(other), only(site)) for other in sites)}
    cameras = {"*"} if "*" in part.camera_origins else {origin.removesuffix(":443") for origin in part.camera_origins}
    switches = (part.downloads, part.uploads, part.developer_tools, part.incognito, part.printing)
    return alone, cameras, switches


def only(site: str) -> Web:
    return Web(groups={"it": (site,)}, allow=("it",))


@given(PARTS, PARTS)
def test_two_that_are_looser_in_neither_direction_do_the_same(one: Web, two: Web) -> None:
    if not RULE.looser(one, two) and not RULE.looser(two, one):
        assert effect(one) == effect(two)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("caf.fr", "*"),
        ("caf.fr", "impots.gouv.fr"),
        ("connect.caf.fr", "caf.fr"),
        ("caf.fr", "notcaf.fr"),
        ("https://caf.fr", "caf.fr"),
        ("https://caf.fr", "http://caf.fr"),
        ("caf.fr:443", "caf.fr"),
    ],
)
def test_a_wider_site_is_looser_and_a_narrower_one_is_not(before: str, after: str) -> None:
    assert RULE.looser(only(before), only(after))
    if after not in ("impots.gouv.fr", "notcaf.fr", "http://caf.fr"):  # these cannot be compared: looser both ways
        assert not RULE.looser(only(after), only(before))


@pytest.mark.parametrize("name", ["downloads", "uploads", "developer_tools", "incognito", "printing"])
def test_each_switch_loosens(name: str) -> None:
    changed: dict[str, Any] = {name: True}
    assert RULE.looser(Web(), replace(Web(), **changed))


def test_a_group_that_nobody_allows_opens_nothing() -> None:
    assert not RULE.looser(Web(), Web(groups={"webmail": ("mail.example.org",)}))
    assert RULE.looser(PART, Web(groups=PART.groups, allow=PART.allow, camera_origins=("https://visio.example.org",)))


# --- what may be written ---

HUNDREDS = [f"a{number}.fr" for number in range(1200)]


@pytest.mark.parametrize(
    ("wrong", "path", "word"),
    [
        ({"groups": {"caf": ["*.caf.fr"]}}, "web.groups.caf", "*.caf.fr"),
        ({"groups": {"caf": ["fr"]}}, "web.groups.caf", "'fr'"),
        ({"groups": {"caf": ["CAF.fr"]}}, "web.groups.caf", "lower case"),
        ({"groups": {"caf": ["caf.fr/path"]}}, "web.groups.caf", "caf.fr/path"),
        ({"groups": {"caf": ["file://caf.fr"]}}, "web.groups.caf", "file://"),
        ({"groups": {"caf": ["caf.fr:70000"]}}, "web.groups.caf", "70000"),
        ({"groups": {"caf": ["300.1.1.1"]}}, "web.groups.caf", "300.1.1.1"),
        ({"groups": {"caf": [f"{'a.' * 140}fr"]}}, "web.groups.caf", "hosts"),
        ({"groups": {"Caf": []}}, "web.groups", "kebab-case"),
        ({"groups": {"caf": ["caf.fr"] * 1001}}, "web.groups.caf", "at most 1000"),
        ({"allow": ["webmail"]}, "web", "no such group in groups: webmail"),
        ({"groups": {"a": HUNDREDS[:600], "b": HUNDREDS[600:]}, "allow": ["a", "b"]}, "web", "at most 1000 entries"),
        ({"camera_origins": ["http://visio.example.org"]}, "web.camera_origins", "https://"),
        ({"camera_origins": ["visio.example.org"]}, "web.camera_origins", "https://"),
        ({"camera_origins": ["https://visio.example.org"]}, "web", "not open"),
        ({"groups": {"v": ["*.fr"]}, "downloads": 1}, "web.downloads", "true or false"),
        ({"cookies": True}, "web.cookies", "unknown key"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_where_it_stands(wrong: dict[str, Any], path: str, word: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(RULE.schema, wrong, "web")
    assert any(problem.path == path and word in problem.message for problem in refused.value.problems)


def test_a_thousand_sites_in_two_groups_and_a_loopback_camera_are_good() -> None:
    data = {
        "groups": {"a": HUNDREDS[:600], "b": ["http://127.0.0.1", *HUNDREDS[201:999]]},
        "allow": ["a", "b"],
        "camera_origins": ["http://127.0.0.1:8000"],
    }
    part: Web = build(RULE.schema, data, "web")
    assert build(RULE.schema, plain(part), "web") == part


def test_nothing_written_is_everything_locked() -> None:
    assert build(RULE.schema, {}, "web") == Web() == RULE.schema()


# --- the machine ---


def test_what_is_applied_is_measured_in_both_places(machine: Machine) -> None:
    assert RULE.measure(machine, PLACE, PART).state == "violated"
    RULE.apply(machine, PLACE, PART)
    assert RULE.measure(machine, PLACE, PART).state == "compliant"
    said = written(machine)
    assert said == written(machine, MANAGED[1])
    assert said["URLBlocklist"] == ["*", "chrome://*"]
    assert said["URLAllowlist"] == ["caf.fr", "https://visio.example.org", "chrome://print"]
    assert said["PrintingEnabled"] is said["AllowFileSelectionDialogs"] is True
    assert RULE.measure(machine, PLACE, Web()).state == "violated"


def test_the_default_lets_nothing_through(machine: Machine) -> None:
    RULE.apply(machine, PLACE, Web())
    said = written(machine)
    locked = {
        "URLAllowlist": [],
        "DownloadRestrictions": 3,
        "DeveloperToolsAvailability": 2,
        "RemoteDebuggingAllowed": False,
        "IncognitoModeAvailability": 1,
        "PrintingEnabled": False,
        "AllowFileSelectionDialogs": False,
        "VideoCaptureAllowed": False,
        "VideoCaptureAllowedUrls": [],
        "AudioCaptureAllowed": False,
        "AudioCaptureAllowedUrls": [],
        "DnsOverHttpsMode": "off",
    }
    assert {name: said[name] for name in locked} == locked


def test_every_site_is_every_page_of_the_web_and_no_file_of_the_booth(machine: Machine) -> None:
    RULE.apply(machine, PLACE, only("*"))
    assert written(machine)["URLAllowlist"] == ["http://*", "https://*"]


def test_a_camera_is_for_one_port(machine: Machine) -> None:
    RULE.apply(machine, PLACE, Web(camera_origins=("https://visio.example.org", "http://localhost:81")))
    assert written(machine)["VideoCaptureAllowedUrls"] == ["http://localhost:81", "https://visio.example.org:443"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_browsers_user_can_read_it_whatever_the_umask(machine: Machine, umask: int) -> None:
    before = os.umask(umask)
    try:
        RULE.apply(machine, PLACE, PART)
    finally:
        os.umask(before)
    for folder in MANAGED:
        file = machine.path(folder) / FILE
        assert file.stat().st_mode & 0o777 == 0o644
        assert {parent.stat().st_mode & 0o777 for parent in list(file.parents)[:3]} == {0o755}


def edited(folder: Path) -> None:
    (folder / FILE).write_text((folder / FILE).read_text().replace('"*"', '"about:*"'))


def in_its_place(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).symlink_to("/dev/null")


def folder_elsewhere(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


TAMPERING = {
    "edited": edited,
    "deleted": lambda folder: (folder / FILE).unlink(),
    "a link in its place": in_its_place,
    "writable by others": lambda folder: (folder / FILE).chmod(0o666),
    "hidden from the browser": lambda folder: (folder / FILE).chmod(0o600),
    "folder writable by others": lambda folder: folder.chmod(0o777),
    "folder hidden": lambda folder: folder.parent.chmod(0o700),
    "folder elsewhere": folder_elsewhere,
    "a later file": lambda folder: (folder / "zz.json").write_text('{"URLAllowlist": ["*"]}'),
    "one without an ending": lambda folder: (folder / "zz").write_text('{"URLAllowlist": ["*"]}'),
    "a hidden one": lambda folder: (folder / ".zz").write_text("{ }   \n"),
    "a link to one": lambda folder: (folder / "zz.json").symlink_to("/etc/hostname"),
    "a pipe": lambda folder: os.mkfifo(folder / "zz.json"),
}  # fmt: skip


@pytest.mark.parametrize("folder", MANAGED)
@pytest.mark.parametrize("tampering", TAMPERING.values(), ids=TAMPERING.keys())
def test_any_change_is_seen_and_repaired(machine: Machine, folder: str, tampering: Any) -> None:
    RULE.apply(machine, PLACE, PART)
    tampering(machine.path(folder))
    measured = RULE.measure(machine, PLACE, PART)
    assert measured.state == "violated"
    assert measured.detail is not None
    assert measured.detail.startswith(f"/{folder.removesuffix('/policies/managed')}: ")
    RULE.apply(machine, PLACE, PART)
    assert RULE.measure(machine, PLACE, PART).state == "compliant"


@only_root
@pytest.mark.parametrize("name", ["booth-web.json", "", "..", "../.."])
def test_what_belongs_to_somebody_else_is_made_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    RULE.apply(machine, PLACE, PART)
    precious = machine.path("etc/precious")
    precious.mkdir()
    (precious / "file").touch()
    theirs = (machine.path(MANAGED[0]) / name).resolve()
    if theirs.is_dir():
        (theirs / "folder").mkdir()
        (theirs / "folder/link").symlink_to(precious)
    os.chown(theirs, 1000, 1000)
    no_owner_is_changed(monkeypatch)
    measured = RULE.measure(machine, PLACE, PART)
    assert (measured.state, measured.detail) == ("violated", f"/etc/chromium: {theirs.name} does not belong to root")
    RULE.apply(machine, PLACE, PART)
    assert RULE.measure(machine, PLACE, PART).state == "compliant"
    assert theirs.stat().st_uid == 0
    left = {entry.name for entry in machine.path("etc").rglob("*")}
    assert left == {"chromium", "chromium-browser", "policies", "managed", FILE, "precious", "file"}


def test_a_package_s_empty_default_and_a_folder_stay(machine: Machine) -> None:
    managed = machine.path(MANAGED[0])
    (managed / "folder").mkdir(parents=True)
    (managed / "default.json").write_text("{}\n")
    (managed / "README").touch()
    RULE.apply(machine, PLACE, PART)
    assert RULE.measure(machine, PLACE, PART).state == "compliant"
    assert sorted(file.name for file in managed.iterdir()) == ["README", FILE, "default.json", "folder"]


def test_the_second_time_nothing_is_written(machine: Machine) -> None:
    RULE.apply(machine, PLACE, PART)
    before = seen(machine)
    RULE.apply(machine, PLACE, PART)
    assert seen(machine) == before


def test_undone_leaves_nothing_but_what_was_there(machine: Machine) -> None:
    preferences = machine.path("etc/chromium/master_preferences")
    preferences.parent.mkdir(parents=True)
    preferences.touch()
    RULE.apply(machine, PLACE, PART)
    RULE.undo(machine, PLACE)
    RULE.undo(machine, PLACE)
    assert list(machine.path("etc").rglob("*")) == [preferences.parent, preferences]


def test_without_a_chromium_it_does_not_apply_but_tampering_is_still_told(tmp_path: Path) -> None:
    machine = Machine(Booth(tmp_path).root)
    RULE.apply(machine, PLACE, PART)
    measured = RULE.measure(machine, PLACE, PART)
    assert (measured.state, measured.detail) == ("not-applicable", "neither chromium nor chromium-browser is installed")
    edited(machine.path(MANAGED[0]))
    assert RULE.measure(machine, PLACE, PART).state == "violated"


def test_a_change_of_the_files_and_of_the_folders_is_watched() -> None:
    assert {*MANAGED, *(f"{folder}/{FILE}" for folder in MANAGED)} == set(RULE.watched)
