"""Debian's Chromium, the real one, under what the rule `web` writes: what opens, what does not, what it says of each policy.

Two keys are left out of the copy under test, `DeveloperToolsAvailability` and `RemoteDebuggingAllowed`: a headless Chromium is
itself driven by the DevTools protocol, hangs under the first and refuses its driver under the second. And one page is open in
it, the one from which `--dump-dom` works.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from agent.contract.typed import build
from agent.lockdown.rule import Place
from agent.lockdown.web import RULE
from agent.privileged.machine import Machine
from tests.lockdown.browser import Driven, Pages, dumped
from tests.machine.namespace import missing_mounts

PROFILES: Final = Path(__file__).parents[2] / "provisioning/profiles"
UNDRIVABLE: Final = ("DeveloperToolsAvailability", "RemoteDebuggingAllowed")
MANAGED: Final = "etc/chromium/policies/managed"

DUMPER: Final = "chrome://headless"
CLOSED: Final = "net::ERR_BLOCKED_BY_ADMINISTRATOR"
BOOTH: Final = ("chrome://settings", "chrome://policy", "chrome://downloads", "data:text/html,hello", "file:///etc/hostname")

# Each row of chrome://policy that has a value: its name, and what is wrong with it.
ROWS: Final = """
(function rows(node) {
    const text = (row, part) => row.shadowRoot.querySelector(`.policy.row ${part}`).textContent.trim();
    return [...node.querySelectorAll('*')].filter(one => one.shadowRoot).flatMap(one =>
        one.tagName == 'POLICY-ROW' ? [[text(one, '.name'), text(one, '.messages')]] : rows(one.shadowRoot));
})(document).filter(([name, status]) => status != 'Not set.')
"""
FILM: Final = "navigator.mediaDevices.getUserMedia({video: true, audio: true}).then(_ => 'films', error => error.name)"


@pytest.fixture(scope="module", autouse=True)
def mounts() -> None:
    if reason := missing_mounts():
        pytest.skip(reason)
    assert shutil.which("chromium"), "apt-get install chromium"


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture
def closed() -> Iterator[Pages]:
    """Another site, that no policy here opens."""
    pages = Pages()
    yield pages
    pages.close()


def under(root: Path, part: dict[str, Any], *without: str) -> Path:
    """The folder of a machine to which the rule was applied."""
    RULE.apply(Machine(root), Place(), build(RULE.schema, part, "web"))
    file = root / MANAGED / "booth-web.json"
    policies = {name: value for name, value in json.loads(file.read_text()).items() if name not in (*UNDRIVABLE, *without)}
    policies["URLAllowlist"].append(DUMPER)
    file.write_text(json.dumps(policies))
    return root


def profile(name: str, pages: Pages) -> dict[str, Any]:
    """Its own section, with the loopback site among those that are open; its camera is for that one, if for any."""
    part: dict[str, Any] = json.loads((PROFILES / name / "policy.json").read_text())["web"]
    part["groups"]["loopback"] = [pages.site]
    part["allow"].append("loopback")
    part["camera_origins"] = [pages.site] if part["camera_origins"] else []
    return part


def open_alone(pages: Pages, **more: object) -> dict[str, Any]:
    return {"groups": {"loopback": [pages.site]}, "allow": ["loopback"], **more}


BOTH: Final = pytest.mark.parametrize("name", ["fonctionnaire-virtuel", "visio-guichet"])


@BOTH
def test_an_allowed_site_opens_and_another_does_not(tmp_path: Path, pages: Pages, closed: Pages, name: str) -> None:
    root = under(tmp_path, profile(name, pages))
    assert "<p>bonjour</p>" in dumped(root, pages.site)
    assert dumped(root, closed.site) == ""
    assert closed.asked == []


@BOTH
def test_neither_files_nor_its_own_pages_open_and_nothing_is_downloaded(tmp_path: Path, pages: Pages, name: str) -> None:
    root = under(tmp_path, profile(name, pages))
    with Driven(root, "--headless") as browser:
        assert browser.open(pages.site) is None
        for url in (f"view-source:{pages.site}", *BOOTH):
            assert browser.open(url) == CLOSED, url
        assert download(browser, pages) == "canceled"
    assert pages.asked.count("/file") == 1
    assert list(root.rglob("landed*")) == []


def download(browser: Driven, pages: Pages) -> str:
    """How it ends."""
    browser.call("Browser.setDownloadBehavior", behavior="default", eventsEnabled=True)
    assert browser.open(f"{pages.site}/file") == "net::ERR_ABORTED"  # no page comes of it

    def ended() -> str | None:
        states = [event["params"]["state"] for event in browser.heard() if event["method"] == "Browser.downloadProgress"]
        return next((state for state in states if state != "inProgress"), None)

    return str(browser.until(ended))


def test_where_downloads_are_allowed_one_lands(tmp_path: Path, pages: Pages) -> None:
    with Driven(under(tmp_path, open_alone(pages, downloads=True)), "--headless") as browser:
        assert download(browser, pages) == "completed"
    assert [file.read_text() for file in tmp_path.rglob("landed*")] == ["canary"]


def test_every_site_is_every_site_of_the_web_alone(tmp_path: Path, pages: Pages) -> None:
    root = under(tmp_path, {"groups": {"all": ["*"]}, "allow": ["all"]})
    with Driven(root, "--headless") as browser:
        assert browser.open(pages.site) is None
        assert browser.open(f"http://localhost:{pages.port}/") is None
        for url in BOOTH:
            assert browser.open(url) == CLOSED, url


@pytest.mark.parametrize(
    ("camera", "said"),
    [(True, "films"), (False, "NotAllowedError")],
)
def test_the_camera_is_for_its_origin(tmp_path: Path, pages: Pages, closed: Pages, camera: bool, said: str) -> None:
    part = open_alone(pages, camera_origins=[pages.site] if camera else [])
    part["groups"]["loopback"].append(closed.site)
    with Driven(under(tmp_path, part), "--headless", "--use-fake-device-for-media-stream") as browser:
        assert filming(browser, pages) == said
        assert filming(browser, closed) == "NotAllowedError"


def filming(browser: Driven, pages: Pages) -> Any:
    assert browser.open(pages.site) is None
    return browser.ask(FILM)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_window_without_a_trace_opens_where_it_is_allowed(tmp_path: Path, pages: Pages, allowed: bool) -> None:
    with Driven(under(tmp_path, open_alone(pages, incognito=allowed)), "--headless", "--incognito") as browser:
        usual = browser.call("Target.getBrowserContexts")["defaultBrowserContextId"]
        page = next(target for target in browser.targets() if target["type"] == "page")
        assert (page["browserContextId"] != usual) is allowed


@pytest.mark.parametrize("open_everywhere", [False, True])
def test_chromium_knows_every_policy_and_takes_every_value(tmp_path: Path, pages: Pages, open_everywhere: bool) -> None:
    names = ("downloads", "uploads", "developer_tools", "incognito", "printing")
    part: dict[str, Any] = dict.fromkeys(names, True) | {"groups": {"all": ["*"]}, "allow": ["all"], "camera_origins": ["*"]}
    # Its own page about them is closed by one of them.
    root = under(tmp_path, part if open_everywhere else open_alone(pages, camera_origins=[pages.site]), "URLBlocklist")
    (root / MANAGED / "zz").write_text('{"NoSuchPolicy": true}')
    written = json.loads((root / MANAGED / "booth-web.json").read_text())
    with Driven(root, "--headless") as browser:
        assert browser.open("chrome://policy") is None
        said = dict(browser.until(lambda: browser.ask(ROWS)))
    assert said.pop("NoSuchPolicy") == "Error"
    assert said.keys() == written.keys()
    # Two have a successor that older ones do not know; both are heeded.
    deprecated = {"AutofillAddressEnabled", "AutofillCreditCardEnabled"}
    assert {name: status for name, status in said.items() if status != "OK" and name not in deprecated} == {}
    assert {said[name] for name in deprecated} <= {"OK", "Deprecated"}


def test_a_file_of_any_name_would_loosen_and_is_removed(tmp_path: Path, pages: Pages, closed: Pages) -> None:
    root = under(tmp_path, open_alone(pages))
    (root / MANAGED / "zz-no-ending").write_text(json.dumps({"URLAllowlist": [closed.site, DUMPER]}))
    assert "<p>bonjour</p>" in dumped(root, closed.site)
    under(tmp_path, open_alone(pages))
    assert dumped(root, closed.site) == ""


@pytest.fixture(scope="module")
def screen() -> Iterator[None]:
    """A screen in memory: no preview opens without one."""
    assert shutil.which("Xvfb"), "apt-get install xvfb"
    ear, mouth = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(mouth)], pass_fds=(mouth,), stderr=subprocess.DEVNULL)
    os.close(mouth)
    with open(ear, encoding="ascii") as said, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", f":{said.readline().strip()}")
        yield
    server.terminate()
    server.wait(10)


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("allowed", [False, True])
def test_the_preview_of_a_print_opens_where_it_is_allowed(tmp_path: Path, pages: Pages, allowed: bool) -> None:
    with Driven(under(tmp_path, open_alone(pages, printing=allowed))) as browser:
        assert browser.open(pages.site) is None
        if allowed:
            browser.begin("print()")  # comes back when the preview is closed
            browser.until(lambda: "chrome://print/" in [target["url"] for target in browser.targets()])
        else:
            assert browser.ask("print(); 'nothing happened'") == "nothing happened"
            assert "chrome://print/" not in [target["url"] for target in browser.targets()]
