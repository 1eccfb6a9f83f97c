"""How often: counted by root, across clocks that jump and files that are damaged."""

import os
from pathlib import Path

import pytest

from agent.privileged.limits import Limit, take
from agent.privileged.verdict import Ended

TWICE = Limit(2, 100)
ONCE = Limit(1, 100)


def asked(file: Path, limit: Limit, now_s: float, *, lasting: bool = False) -> str:
    try:
        take(file, limit, now_s, lasting=lasting)
    except Ended as end:
        return end.code
    return "done"


def test_so_many_times_in_so_long(tmp_path: Path) -> None:
    file = tmp_path / "usb-reset" / "receipt-printer"
    outcomes = [asked(file, TWICE, now) for now in (1000, 1010, 1020, 1099, 1100, 1109, 1110)]
    assert outcomes == ["done", "done", "rate-limited", "rate-limited", "done", "rate-limited", "done"]
    assert file.stat().st_mode & 0o077 == 0 or file.parent.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in file.parent.iterdir()] == ["receipt-printer"]


def test_it_says_how_long_to_wait(tmp_path: Path) -> None:
    take(tmp_path / "reboot", Limit(1, 21600), 1000.9, lasting=True)
    with pytest.raises(Ended, match="at most 1 in 21600 s; again in 21599 s"):
        take(tmp_path / "reboot", Limit(1, 21600), 1001.2, lasting=True)


def test_each_slot_has_a_count_of_its_own(tmp_path: Path) -> None:
    assert [asked(tmp_path / name, ONCE, 1000) for name in ("a", "b", "a")] == ["done", "done", "rate-limited"]


def test_a_time_in_the_future_counts_as_now(tmp_path: Path) -> None:
    """The clock was wrong once: neither free now, nor forbidden for years."""
    file = tmp_path / "reboot"
    assert asked(file, ONCE, 9_999_999) == "done"
    assert asked(file, ONCE, 1000) == "rate-limited"
    assert [asked(file, ONCE, now) for now in (1001, 1050, 1099, 1100)] == ["rate-limited"] * 3 + ["done"]


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\x00", b"soon\n", b"1000", b"-5\n", b"9" * 5000 + b"\n", b"\xff\xfe\n"])
def test_a_damaged_count_is_none_but_where_it_must_last(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "count"
    file.write_bytes(damage)
    assert asked(file, ONCE, 1000) == "done"
    file.write_bytes(damage)
    assert asked(file, ONCE, 1000, lasting=True) == "rate-limited"
    assert [asked(file, ONCE, now, lasting=True) for now in (1099, 1100)] == ["rate-limited", "done"]


@pytest.mark.parametrize("lasting", [True, False])
def test_what_cannot_be_counted_is_not_done(tmp_path: Path, lasting: bool) -> None:
    (tmp_path / "file").touch()
    assert asked(tmp_path / "file" / "count", ONCE, 1000, lasting=lasting) == "refused"
    folder = tmp_path / "count"
    folder.mkdir()
    assert asked(folder, TWICE, 1000, lasting=lasting) == "refused"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "count.new").symlink_to("/dev/full")
    assert asked(tmp_path / "count", ONCE, 1000, lasting=True) == "refused"


def test_the_count_is_on_the_disk_before_the_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    take(tmp_path / "reboot", ONCE, 1000, lasting=True)
    assert synced == ["reboot.new", tmp_path.name]
