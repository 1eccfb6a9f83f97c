"""SANE in a worker: every status becomes a word, nothing is sent, and libsane never enters this process."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from agent.devices.sane_config import prepare, quiet, sources
from agent.devices.workers import WorkerFailed, Workers
from agent.simulator.scanner import RemoteScanner, Scanner

NOBODY: dict[str, Any] = {"cover_open": None, "document_loaded": None}


def need_sane() -> None:
    """Skips where the test backend or its wrapper is missing."""
    if importlib.util.find_spec("_sane") is None:
        pytest.skip("python-sane is not installed")
    if not list(Path("/usr/lib").glob("*/sane/libsane-test.so.1")):
        pytest.skip("libsane1 with its test backend is not installed")


def need_saned() -> None:
    need_sane()
    if shutil.which("saned", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("saned (package sane-utils) is not installed")


async def ask(folder: Path, device: str, config_dir: Path, deadline_s: float = 15.0, **request: Any) -> dict[str, Any]:
    _, backend, name = device.split(":", 2)
    workers = Workers()
    asked = {"backend": backend, "device": name, "folder": str(folder), "config_dir": str(config_dir), "scan": True} | request
    try:
        return await workers.call(device, "agent.devices.sane:check", asked, deadline_s)
    finally:
        assert workers.alive == 0


# --- the words ---


@pytest.mark.parametrize(
    "status",
    [
        "ok",
        "jammed",
        "cover-open",
        "no-docs",
        "busy",
        "io-error",
        "access-denied",
        "no-memory",
        "invalid",
        "unsupported",
        "end-of-file",
    ],
)
async def test_every_status_of_a_scan_is_a_word(tmp_path: Path, status: str) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.status = status
    answer = await ask(tmp_path / "ours", scanner.device, scanner.folder)
    size: Any = {"ok": answer["scanned_bytes"], "end-of-file": 0}.get(status)
    assert answer == NOBODY | {
        "listed": True, "opened": True, "status": status, "text": None,
        "vendor": "Noname", "product": "frontend-tester", "scanned_bytes": size,
    }  # fmt: skip
    if status == "ok":
        assert 0 < size < 2000, "a square centimetre, grey and coarse"


async def test_without_scan_it_is_opened_only(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.status = "jammed"
    answer = await ask(tmp_path / "ours", scanner.device, scanner.folder, scan=False)
    assert (answer["opened"], answer["status"], answer["scanned_bytes"]) == (True, "ok", None)


async def test_auto_is_the_first_that_the_backend_finds(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    answer = await ask(tmp_path / "ours", "sane:test:auto", scanner.folder)
    assert (answer["listed"], answer["status"], answer["product"]) == (True, "ok", "frontend-tester")


async def test_one_that_is_unplugged_is_neither_listed_nor_opened(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.plugged = False
    started_s = time.monotonic()
    answer = await ask(tmp_path / "ours", scanner.device, scanner.folder)
    assert (answer["listed"], answer["opened"], answer["status"]) == (False, False, "invalid")
    assert time.monotonic() - started_s > 1, "it may have been asleep: tried again"


async def test_a_backend_that_dies_takes_nobody_with_it(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.crashes = True
    with pytest.raises(WorkerFailed) as caught:
        await ask(tmp_path / "ours", scanner.device, scanner.folder)
    assert (caught.value.code, caught.value.detail["how"]) == ("probe-failed", "SIGSEGV")


async def test_a_scanner_behind_saned_is_read_the_same_way(tmp_path: Path) -> None:
    need_saned()
    remote = RemoteScanner(tmp_path)
    await remote.start()
    try:
        answer = await ask(tmp_path / "ours", remote.device, remote.folder)
        assert (answer["opened"], answer["status"]) == (True, "ok")
    finally:
        await remote.kill()
    answer = await ask(tmp_path / "ours", remote.device, remote.folder)
    assert (answer["listed"], answer["opened"], answer["status"]) == (False, False, "io-error")


# --- inside the worker, with a scanner made of Python ---


@pytest.fixture
def worker_side() -> ModuleType:
    need_sane()
    return importlib.import_module("agent.devices.sane")


def option(index: int, name: str, type_: int, constraint: Any = None, unit: int = 0) -> SimpleNamespace:
    return SimpleNamespace(index=index, name=name, type=type_, constraint=constraint, unit=unit, is_active=lambda: True)


class FakeDevice:
    """As python-sane's SaneDev, with a sheet feeder, sensors, and a resolution in steps."""

    def __init__(
        self, *, cover_open: bool = False, loaded: bool = False, sources: tuple[str, ...] = ("ADF Front", "Flatbed")
    ) -> None:
        self.set: dict[str, Any] = {}
        self.scans = self.cancels = self.closes = 0
        values = {1: cover_open, 2: loaded}
        opt = {
            "cover_open": option(1, "cover-open", 0),
            "page_loaded": option(2, "page-loaded", 0),
            "source": option(3, "source", 3, list(sources)),
            "mode": option(4, "mode", 3, ["Lineart", "Grayscale", "Color"]),
            "resolution": option(5, "resolution", 1, [75, 150, 300]),
            "tl_x": option(6, "tl-x", 2, (0.0, 216.0, 0.0), 3),
            "br_x": option(7, "br-x", 2, (0.0, 216.0, 0.0), 3),
        }
        self.__dict__["opt"] = opt
        self.__dict__["dev"] = SimpleNamespace(get_option=values.get, snap=lambda no_cancel, _: (b"x" * 700, no_cancel))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("opt", {}):
            self.set[name] = value
        else:
            self.__dict__[name] = value

    def start(self) -> None:
        self.scans += 1

    def cancel(self) -> None:
        self.cancels += 1

    def close(self) -> None:
        self.closes += 1


def check(worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *devices: Any) -> dict[str, Any]:
    """One check, in which opening gives one of `devices` after the other, or raises it."""
    left = list(devices)

    def open_next(_: str) -> Any:
        device = left.pop(0)
        if isinstance(device, Exception):
            raise device
        return device

    fake = SimpleNamespace(init=lambda: None, get_devices=lambda _: [("x:1", "V\x1b", "M", "")], open=open_next)
    monkeypatch.setattr(worker_side, "sane", fake)
    monkeypatch.setattr(worker_side, "_WAKES_IN_S", 0.0)
    monkeypatch.setenv("SANE_CONFIG_DIR", str(tmp_path))
    request = {"backend": "x", "device": "1", "folder": str(tmp_path / "ours"), "config_dir": None, "scan": True}
    answer: dict[str, Any] = worker_side.check(request)
    assert not left
    return answer


def test_the_first_failure_after_sleep_is_tried_again_once(
    worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = worker_side._sane.error
    for text, word in (("Invalid argument", "invalid"), ("Error during device I/O", "io-error")):
        answer = check(worker_side, monkeypatch, tmp_path, error(text), FakeDevice())
        assert (answer["status"], answer["opened"], answer["scanned_bytes"]) == ("ok", True, 700)
        answer = check(worker_side, monkeypatch, tmp_path, error(text), error(text))
        assert (answer["status"], answer["opened"]) == (word, False)
    answer = check(worker_side, monkeypatch, tmp_path, error("Device busy"))
    assert answer["status"] == "busy", "that is no sleep: not tried again"


def test_a_text_without_a_word_is_handed_on_harmlessly(
    worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = check(worker_side, monkeypatch, tmp_path, worker_side._sane.error("Odd\x1b[2J"))
    assert (answer["status"], answer["text"], answer["vendor"]) == ("other", "Odd\\x1b[2J", "V\\x1b")


def test_it_scans_a_little_from_the_glass(worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = FakeDevice()
    check(worker_side, monkeypatch, tmp_path, device)
    assert device.set == {"source": "Flatbed", "mode": "Grayscale", "resolution": 75, "tl_x": 0.0, "br_x": 10.0}
    assert (device.scans, device.cancels, device.closes) == (1, 1, 1)


@pytest.mark.parametrize(
    ("device", "scans"),
    [
        ({"cover_open": True}, 0),  # known already
        ({"loaded": True}, 1),  # the glass is free
        ({"loaded": True, "sources": ("ADF Front", "ADF Duplex")}, 0),  # it would pull somebody's document through
        ({"loaded": False, "sources": ("ADF Front", "ADF Duplex")}, 1),
    ],
)
def test_sensors_are_read_first_and_a_loaded_feeder_is_left_alone(
    worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: dict[str, Any], scans: int
) -> None:
    fake = FakeDevice(**device)
    answer = check(worker_side, monkeypatch, tmp_path, fake)
    assert (answer["cover_open"], answer["document_loaded"]) == (device.get("cover_open", False), device.get("loaded", False))
    assert (fake.scans, answer["status"]) == (scans, "ok")


def test_what_was_learned_survives_a_backend_that_hangs_when_it_is_let_go(
    worker_side: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_side, "_ENDS_WITHIN_S", 0.05)
    device = FakeDevice()
    device.cancel = lambda: time.sleep(0.5)  # type: ignore[method-assign]
    assert check(worker_side, monkeypatch, tmp_path, device)["status"] == "ok"
    assert device.closes == 0, "closing would hang as well, and with the interpreter's lock"


# --- the configuration folder ---


def test_the_folder_holds_one_backend_and_nothing_else(tmp_path: Path) -> None:
    stock, ours = tmp_path / "stock", tmp_path / "run" / "sane" / "x"
    stock.mkdir()
    (stock / "epson2.conf").write_text("usb\nnet autodiscovery\n  net  autodiscovery\nnet 192.0.2.7\n")
    prepare(ours, "pixma", [stock])
    prepare(ours, "epson2", [tmp_path / "missing", stock])
    assert {file.name: file.read_text() for file in ours.iterdir()} == {
        "dll.conf": "epson2\n",
        "epson2.conf": "usb\nnet 192.0.2.7\n",
    }
    assert ours.stat().st_mode & 0o777 == 0o700


def test_pixma_is_told_not_to_search_the_network() -> None:
    assert quiet("pixma", "networking=yes\nauto_detection=yes\nother") == "other\nnetworking=no\n"
    assert quiet("genesys", "usb 1 2\n") == "usb 1 2\n"


def test_where_the_backends_file_is_taken_from() -> None:
    assert sources("/a", "/b:/c:") == [Path("/a")]
    assert sources(None, "/b:/c:") == [Path("/b"), Path("/c")]
    assert sources(None, None) == sources(None, ":") == [Path("/etc/sane.d")]


@pytest.mark.parametrize("device", ["test:0", "epson2:auto", "epson2:libusb:001:099", "pixma:auto", "pixma:04A91913_0"])
def test_neither_listing_nor_opening_sends_anything_or_loads_another_backend(tmp_path: Path, device: str) -> None:
    need_sane()
    for tool in ("strace", "unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("unshare may not make a network namespace here")
    backend, _, name = device.partition(":")
    request = {"backend": backend, "device": name, "folder": str(tmp_path / "ours"), "config_dir": "/etc/sane.d", "scan": True}
    trace = tmp_path / "trace"
    # In a network namespace with nothing but a loopback interface, over which pixma would call: nobody else hears it.
    subprocess.run(
        ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
         "strace", "-f", "-e", "trace=network,openat", "-o", str(trace),
         sys.executable, "-I", "-m", "agent.devices.worker", "agent.devices.sane:check"],
        input=json.dumps(request), text=True, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    calls = trace.read_text()
    assert f"libsane-{backend}.so" in calls, "the trace does not show what it is for"
    assert "AF_INET" not in calls
    assert "sendto" not in calls
    assert {line.split("libsane-")[1].split(".so")[0] for line in calls.splitlines() if "/libsane-" in line} == {backend}


def test_the_daemon_never_imports_it() -> None:
    program = "import sys, agent.peripherals; agent.peripherals.declared(); print(sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert "agent.peripherals.scanner" in result.stdout
    assert not {"'sane'", "'_sane'", "'agent.devices.sane'"} & set(result.stdout.strip("[]\n").split(", "))
