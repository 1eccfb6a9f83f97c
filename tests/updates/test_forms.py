"""The kind `forms`: a catalogue and its PDFs become a slot that anybody may read, or nothing does."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from agent.contract.forms import Form
from agent.contract.typed import Invalid, build
from agent.updates import kinds
from agent.updates.archive import pack, unpack
from agent.updates.forms import KIND, FormsSection
from agent.updates.kind import NotGood
from tests.forms_folder import SHIPPED, form, furnish, shipped

PLACE = Path("/var/lib/booth-forms/slots/a")
CONFIG = Path("/etc/booth-agent")


def laid(files: Path, slot: Path) -> Path:
    slot.mkdir()
    KIND.lay(files, slot, PLACE, "0123456789ab")
    return slot


def artifact(**over: object) -> dict[str, object]:
    return {"url": "http://127.0.0.1/f.tar", "size_bytes": 9, "sha256": "0a" * 32} | over


def test_it_is_found_by_the_name_of_its_section_and_named_by_its_hash() -> None:
    assert kinds()["forms"] is KIND
    section = build(FormsSection, {"catalogue": artifact()})
    assert (KIND.version(section), KIND.artifact(section, "arm64")) == ("0a0a0a0a0a0a", section.catalogue)
    assert (KIND.on_trial, KIND.older("a", "b"), KIND.place) == (False, False, "var/lib/booth-forms")
    with pytest.raises(Invalid) as caught:
        build(FormsSection, {"catalogue": artifact(url="file:///etc/passwd", size_bytes=0), "window": "night", "x": 1})
    assert {problem.path for problem in caught.value.problems} == {"catalogue.url", "catalogue.size_bytes", "window", "x"}


def test_the_shipped_forms_go_through_an_archive_into_a_slot_that_everybody_may_read(tmp_path: Path) -> None:
    archive, files = tmp_path / "forms.tar", tmp_path / "files"
    pack(SHIPPED, archive, 0)
    files.mkdir()
    unpack(archive, files)
    before = os.umask(0o077)
    try:
        slot = laid(files, tmp_path / "slot")
    finally:
        os.umask(before)
    KIND.check(slot, CONFIG)
    assert {file.name: file.read_bytes() for file in slot.iterdir()} == {f.name: f.read_bytes() for f in SHIPPED.iterdir()}
    assert {file.stat().st_mode & 0o777 for file in slot.iterdir()} == {0o644}
    assert slot.stat().st_mode & 0o777 == 0o755


def test_the_note_that_root_leaves_in_a_slot_is_no_form_left_over(tmp_path: Path) -> None:
    slot = laid(furnish(tmp_path / "files", form()), tmp_path / "slot")
    (slot / "release.json").write_text("{}")
    KIND.check(slot, CONFIG)
    (tmp_path / "files" / "release.json").write_text("{}")
    with pytest.raises(NotGood, match=r"release\.json: the catalogue does not name it"):
        laid(tmp_path / "files", tmp_path / "other")


def edit(text: str, other: str) -> Callable[[Path], object]:
    def edited(folder: Path) -> None:
        file = folder / "catalogue.json"
        assert text in file.read_text()
        file.write_text(file.read_text().replace(text, other))

    return edited


def lead_elsewhere(folder: Path) -> None:
    (folder / "10840.pdf").rename(folder.parent / "elsewhere.pdf")
    (folder / "10840.pdf").symlink_to(folder.parent / "elsewhere.pdf")


def name_a_web_page(folder: Path) -> None:
    page = b"<html>"
    furnish(folder, form("10840", data=page))
    (folder / "10840.pdf").write_bytes(page)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no catalogue": (lambda f: (f / "catalogue.json").unlink(), r"catalogue\.json: it is missing"),
    "a catalogue that is none": (lambda f: (f / "catalogue.json").write_text("{"), r"catalogue\.json: .*no JSON"),
    "a catalogue of another schema": (edit('"schema": 1', '"schema": 2'), "schema"),
    "a form missing": (lambda f: (f / "10840.pdf").unlink(), r"10840\.pdf: it is missing"),
    "a form left over": (lambda f: (f / "15000.pdf").touch(), r"15000\.pdf: the catalogue does not name it"),
    "a folder": (lambda f: (f / "more").mkdir(), "more: the catalogue does not name it"),
    "a form cut short": (lambda f: os.truncate(f / "13750.pdf", 700), r"13750\.pdf: its size"),
    "one bit of a form": (
        lambda f: (f / "13750.pdf").write_bytes((f / "13750.pdf").read_bytes()[:-1] + b"\t"), r"13750\.pdf: its SHA-256",
    ),
    "a form that leads elsewhere": (lead_elsewhere, r"10840\.pdf: it is no regular file"),
    "a form that is a web page": (name_a_web_page, r"10840\.pdf: it does not begin as a PDF"),
}  # fmt: skip


@pytest.mark.parametrize(("breaks", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_an_archive_that_does_not_keep_to_its_catalogue_is_refused_before_anything_is_copied(
    tmp_path: Path, breaks: Callable[[Path], object], says: str
) -> None:
    files = shipped(tmp_path / "files")
    breaks(files)
    with pytest.raises(NotGood, match=says) as caught:
        laid(files, tmp_path / "slot")
    assert caught.value.reason == "bad-archive"
    assert list((tmp_path / "slot").iterdir()) == []


@pytest.mark.parametrize(("breaks", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_slot_that_was_damaged_since_is_seen_before_the_switch(
    tmp_path: Path, breaks: Callable[[Path], object], says: str
) -> None:
    slot = laid(SHIPPED, tmp_path / "slot")
    breaks(slot)
    with pytest.raises(NotGood, match=says) as caught:
        KIND.check(slot, CONFIG)
    assert caught.value.reason == "bad-archive"


def test_a_withdrawn_form_may_come_without_its_file(tmp_path: Path) -> None:
    files = furnish(tmp_path / "files", form("10840"), form("13750", withdrawn=True))
    (files / "13750.pdf").unlink()
    slot = laid(files, tmp_path / "slot")
    KIND.check(slot, CONFIG)
    assert sorted(file.name for file in slot.iterdir()) == ["10840.pdf", "catalogue.json"]


# --- the specimens ---


def test_the_specimens_are_what_the_script_makes_of_the_catalogue(tmp_path: Path) -> None:
    script = SHIPPED.parent / "stand_in_forms.py"
    folder = tmp_path / "forms"
    folder.mkdir()
    shutil.copy(SHIPPED / "catalogue.json", folder)
    subprocess.run([sys.executable, "-I", str(script), str(folder)], check=True, cwd="/")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {f.name: f.read_bytes() for f in SHIPPED.iterdir()}


@pytest.mark.parametrize("entry", json.loads((SHIPPED / "catalogue.json").read_text())["forms"], ids=lambda entry: entry["cerfa"])
def test_a_specimen_is_a_small_page_of_a4_in_french_that_says_what_it_is(entry: dict[str, str]) -> None:
    data = (SHIPPED / entry["file"]).read_bytes()
    assert len(data) < 3000
    assert data.startswith(b"%PDF-1.4\n")
    assert data.endswith(b"%%EOF\n")
    assert b"/MediaBox [0 0 595 842]" in data
    text = data.decode("cp1252", "replace")
    assert f"Spécimen – modèle de remplacement du formulaire cerfa n° {entry['cerfa']}" in text
    # A reader finds each object by the table at the end.
    table = int(re.findall(rb"startxref\n(\d+)\n", data)[-1])
    assert data[table:].startswith(b"xref\n0 6\n")
    offsets = [int(line[:10]) for line in data[table:].splitlines()[3:8]]
    assert [data[offset:].split(b" ")[0] for offset in offsets] == [b"1", b"2", b"3", b"4", b"5"]
    length = int(re.findall(rb"/Length (\d+)", data)[0])
    assert data[data.index(b"stream\n") + 7 :][length:].startswith(b"\nendstream")


# --- the page for the kiosk's application ---


def test_the_example_for_the_kiosks_application_offers_what_is_good_and_says_what_it_has_to(tmp_path: Path) -> None:
    page = (SHIPPED.parents[1] / "docs" / "forms.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example: dict[str, Any] = {}
    exec(code, example)
    assert [copies for _, _, copies, _ in example["offered"](SHIPPED)] == [2, *[1] * 9]
    folder = furnish(
        tmp_path, form("10840", warning="Attention."), form("13750", not_after="2020-01-01"), form("12669*02", withdrawn=True)
    )
    assert [(file.name, said) for _, file, _, said in example["offered"](folder)] == [
        ("10840.pdf", ["Attention."]), ("13750.pdf", ["Ce formulaire n'est peut-être plus accepté."]),
    ]  # fmt: skip


def test_the_keys_on_the_page_are_those_of_a_form() -> None:
    page = (SHIPPED.parents[1] / "docs" / "forms.md").read_text()
    table = page.partition("| key | what to write |")[2].partition("\n\n")[0]
    assert {field.name for field in fields(Form)} <= set(re.findall(r"`([a-z0-9_]+)`", table))
