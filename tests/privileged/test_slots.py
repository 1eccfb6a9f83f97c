"""Root's list: what may stand in it, and who may have written it."""

import os
from pathlib import Path

import pytest

from agent.contract.words import Name
from agent.privileged.slots import Slots, load
from agent.privileged.verdict import Ended
from tests.privileged.booth import SLOTS, Booth

HOUSE = Path(__file__).parents[2]


def refused(file: Path) -> str:
    with pytest.raises(Ended) as end:
        load(file)
    assert end.value.code == "refused"
    return end.value.detail


def test_the_list(booth: Booth) -> None:
    assert load(booth.slots()) == Slots(
        usb={"receipt-printer": "usb-1.2"},
        queues={"document-printer": "forms"},
        interfaces={"network": "wlan0"},
        units={"kiosk": "booth-kiosk.service"},
        boards={"board": ("NetworkManager.service", "cups.service")},
    )
    assert load(booth.slots("")) == Slots()


def test_the_example_is_a_list_with_and_without_its_comments(booth: Booth) -> None:
    example = (HOUSE / "provisioning/slots.toml").read_text()
    assert load(booth.slots(example)) == Slots(boards={"board": ()})
    lines = [line.removeprefix("# ") if " = " in line else line for line in example.splitlines() if line != "board = []"]
    assert load(booth.slots("\n".join(lines))).usb["camera"] == "usb-1.1"


@pytest.mark.parametrize(
    "text",
    [
        '[usb]\nprinter = "1-1.2"',
        '[usb]\nprinter = "usb-1.2/../1"',
        '[usb]\nprinter = "usb-0"',
        '[usb]\nprinter = "usb-1:1.0"',
        '[usb]\nprinter = "usb-1.2\\n"',
        '[usb]\nprinter = "usb-1.1.1.1.1.1.1"',
        "[usb]\nprinter = 1.2",
        '[usb]\nPrinter = "usb-1.2"',
        '[usb]\n"../printer" = "usb-1.2"',
        '[usb]\n"" = "usb-1.2"',
        '[usb]\nprinter = "usb-1.2"\nprinter = "usb-1.3"',
        '[queues]\nprinter = "-a"',
        '[queues]\nprinter = "a b"',
        '[queues]\nprinter = "a/b"',
        '[queues]\nprinter = ""',
        '[interfaces]\nnetwork = ".."',
        '[interfaces]\nnetwork = "-6"',
        '[interfaces]\nnetwork = "longer-than-an-interface"',
        '[units]\nkiosk = "--now"',
        '[units]\nkiosk = "kiosk"',
        '[units]\nkiosk = "../kiosk.service"',
        '[units]\nkiosk = "a.service b.service"',
        '[boards]\nboard = "cups.service"',
        '[boards]\nboard = ["reboot.target"]',
        f"[boards]\nboard = {['a.service'] * 17}",
        '[printers]\nprinter = "usb-1.2"',
        "usb = []",
        "usb",
        "\x00",
    ],
)
def test_what_may_not_stand_in_it(booth: Booth, text: str) -> None:
    assert "slots.toml" in refused(booth.slots(text))


def test_all_problems_are_counted(booth: Booth) -> None:
    assert "(and 2 more)" in refused(booth.slots('[usb]\na = "x"\nb = "y"\n[queues]\nc = "-"\n'))


def test_without_one_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "slots.toml")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_others_cannot_have_written_it(booth: Booth, mode: int) -> None:
    file = booth.slots()
    file.chmod(mode)
    assert "chmod go-w" in refused(file)


@pytest.mark.parametrize("mode", [0o770, 0o777])
def test_others_cannot_have_put_it_there(booth: Booth, mode: int) -> None:
    file = booth.slots()
    file.parent.chmod(mode)
    assert "chmod go-w" in refused(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("place", ["file", "folder"])
def test_it_belongs_to_root(booth: Booth, place: str) -> None:
    file = booth.slots()
    os.chown(file if place == "file" else file.parent, 65534, 65534)
    assert "does not belong to root" in refused(file)


def test_it_is_the_file_itself(booth: Booth) -> None:
    file = booth.slots()
    moved = file.rename(file.with_name("other.toml"))
    file.symlink_to(moved)
    assert "symbolic links" in refused(file)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert "no regular file" in refused(file)


def test_it_is_no_book(booth: Booth) -> None:
    assert "larger than" in refused(booth.slots(SLOTS + "#" * 65536))


def test_its_names_are_the_agents() -> None:
    assert Slots.__annotations__["usb"].__args__[0] is Name
