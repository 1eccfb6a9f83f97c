"""Units, the disk and the board, with stand-ins for the programs."""

import pytest

from agent.privileged import board, cups
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended
from tests.privileged.booth import Booth, Recorded

SLOTS = Slots(
    queues={"document-printer": "forms", "labels": "zebra"},
    units={"kiosk": "booth-kiosk.service"},
    boards={"board": ("NetworkManager.service", "cups.service")},
)
PLAIN = "systemctl --no-ask-password"


def failed(*units: str) -> str:
    """systemctl, on a machine where these have failed."""
    return f'case "$2 $3" in is-failed*) case " {" ".join(units)} " in *" $3 "*) exit 0 ;; *) exit 1 ;; esac ;; esac'


def test_the_kiosk_is_restarted(booth: Booth) -> None:
    booth.program("systemctl", failed())
    board.restart_kiosk(Recorded(booth.root), SLOTS, "kiosk")
    assert booth.said[1:] == [f"{PLAIN} restart booth-kiosk.service"]


def test_a_kiosk_that_failed_too_often_is_restarted_too(booth: Booth) -> None:
    booth.program("systemctl", failed("booth-kiosk.service"))
    board.restart_kiosk(Recorded(booth.root), SLOTS, "kiosk")
    assert booth.said[1:] == [f"{PLAIN} reset-failed booth-kiosk.service", f"{PLAIN} restart booth-kiosk.service"]


def test_of_the_units_those_that_failed_are_restarted(booth: Booth) -> None:
    booth.program("systemctl", failed("cups.service"))
    board.restart_units(Recorded(booth.root), SLOTS, "board")
    changes = [line for line in booth.said if "is-failed" not in line]
    assert changes == [f"{PLAIN} reset-failed cups.service", f"{PLAIN} restart cups.service"]


def test_where_none_of_them_failed_nothing_is_done(booth: Booth) -> None:
    booth.program("systemctl", failed())
    with pytest.raises(Ended, match="none of the units"):
        board.restart_units(Recorded(booth.root), SLOTS, "board")
    assert all("is-failed" in line for line in booth.said)


def test_the_disk_is_freed(booth: Booth) -> None:
    scans = booth.root / "var/spool/booth-scans"
    (scans / "session").mkdir(parents=True)
    (scans / "session/page.png").touch()
    kept = booth.root / "kept"
    kept.touch()
    (scans / "link").symlink_to(kept)
    (scans / "folder").symlink_to(booth.root / "usr")
    (booth.root / "usr/bin/find").symlink_to("/usr/bin/find")
    for name in ("cancel", "lpstat", "journalctl"):
        booth.program(name)
    board.free_disk(Recorded(booth.root), SLOTS, "board")
    assert list(scans.iterdir()) == []
    assert kept.exists()
    assert (booth.root / "usr/bin").is_dir()
    server = booth.root / "run/cups/cups.sock"
    assert [line for line in booth.said if "lpstat" not in line] == [
        f"cancel -h {server} -a -x forms",
        f"cancel -h {server} -a -x zebra",
        "journalctl --quiet --vacuum-size=50M",
    ]


def test_a_print_server_that_is_down_does_not_keep_the_rest(booth: Booth) -> None:
    booth.program("cancel", "echo 'cancel: Unable to connect to server' >&2; exit 1")
    booth.program("journalctl")
    with pytest.raises(Ended) as end:
        board.free_disk(Recorded(booth.root), SLOTS, "board")
    assert (end.value.code, end.value.detail) == ("failed", "cancel: Unable to connect to server")
    assert booth.said[-1].startswith("journalctl")


def test_a_folder_of_scans_that_is_a_link_is_left_alone(booth: Booth) -> None:
    elsewhere = booth.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (booth.root / "var/spool").mkdir()
    (booth.root / "var/spool/booth-scans").symlink_to(elsewhere)
    (booth.root / "usr/bin/find").symlink_to("/usr/bin/find")
    for name in ("cancel", "lpstat", "journalctl"):
        booth.program(name)
    board.free_disk(Recorded(booth.root), SLOTS, "board")
    assert (elsewhere / "file").exists()


def test_the_board_is_restarted_by_systemd(booth: Booth) -> None:
    booth.program("systemctl")
    board.reboot(Recorded(booth.root), SLOTS, "kiosk")
    assert booth.said == [f"{PLAIN} --no-wall reboot"]


def test_cups_is_restarted_with_ipp_usb_or_without(booth: Booth) -> None:
    booth.program("systemctl", 'case "$*" in *ipp-usb*) exit 5 ;; esac')
    cups.restart(Recorded(booth.root), SLOTS, "document-printer")
    assert booth.said == [f"{PLAIN} restart cups.service", f"{PLAIN} try-restart ipp-usb.service"]


def test_a_program_that_is_missing_hangs_or_babbles(booth: Booth) -> None:
    machine = Recorded(booth.root)
    with pytest.raises(Ended) as end:
        machine.do("nmcli", within_s=1)
    assert (end.value.code, end.value.detail) == ("not-supported", "nmcli is not installed")
    booth.program("nmcli", "exec sleep 60")
    with pytest.raises(Ended, match=r"nmcli took longer than 0\.2 s"):
        machine.do("nmcli", within_s=0.2)
    booth.program("nmcli", "head -c 2000000 /dev/zero; printf 'no\\n\\033[2J' >&2; exit 1")
    with pytest.raises(Ended, match=r"^nmcli: no$"):
        machine.do("nmcli", within_s=10)


def test_a_program_inherits_nothing(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("CANARY", "0e7f")
    booth.program("env", "exec /usr/bin/env")
    names = {line.partition("=")[0] for line in Recorded(booth.root).ask("env", within_s=10).output.splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LANG"}
