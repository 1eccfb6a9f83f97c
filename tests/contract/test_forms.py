"""The catalogue of forms: what is wrong with one is said all at once, and no file of it is believed unread."""

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from agent.contract.forms import MAX_CATALOGUE_BYTES, Form, catalogue_in, flaw, folder_problems, read_catalogue
from agent.contract.typed import Invalid, build
from tests.forms_folder import SHIPPED, catalogue, form, furnish, pdf

TEN = "15776*02 13750 13751*02 14011*02 15646*01 12669*02 15692*01 13757*03 12100*02 10840"


def problems(data: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        read_catalogue(data if isinstance(data, bytes) else json.dumps(data).encode())
    return [problem.path for problem in caught.value.problems]


def test_the_ten_forms_that_ship_are_a_good_catalogue_in_french() -> None:
    shipped = catalogue_in(SHIPPED)
    assert [one.cerfa for one in shipped.forms] == TEN.split()
    assert folder_problems(SHIPPED, shipped) == []
    by_number = {one.cerfa: one for one in shipped.forms}
    assert by_number["15776*02"].copies == 2
    assert "professionnels" in (by_number["13751*02"].warning or "")
    assert any("é" in one.title for one in shipped.forms)


def test_everything_that_is_wrong_with_a_catalogue_is_said_at_once() -> None:
    wrong = [
        form("10840", cerfa="1084O"),
        form("15646*01", file="../15646.pdf", size_bytes=0, verified_on="2026-02-30"),
        form("12669*02", sha256="ABC", source="http://service-public.gouv.fr/", copies=10, not_after="20261101"),
        form("14011*02", title=" Déclaration\n", warning=""),
        form("13750"),
        form("13750", file="13750-b.pdf"),
        form("13757*03", file="13750.pdf", colour="blue"),
    ]
    assert sorted(problems(catalogue(*wrong, schema=2, version="v 1"))) == [
        "forms[0].cerfa", "forms[1].file", "forms[1].size_bytes", "forms[1].verified_on", "forms[2].copies",
        "forms[2].not_after", "forms[2].sha256", "forms[2].source", "forms[3].title", "forms[3].warning", "forms[5].cerfa",
        "forms[6].colour", "forms[6].file", "schema", "version",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":1,"a":2}', b"{" * 50, b" " * (MAX_CATALOGUE_BYTES + 1)])
def test_what_is_no_catalogue_at_all_is_one_problem(data: bytes) -> None:
    assert problems(data) == [""]


def test_an_empty_catalogue_and_an_endless_one_are_refused() -> None:
    assert problems(catalogue()) == ["forms"]
    assert problems(catalogue(*(form(str(10000 + number)) for number in range(201)))) == ["forms"]


def test_a_reader_may_ignore_keys_of_a_newer_catalogue_but_root_does_not() -> None:
    data = json.dumps(catalogue(form(audio="lu.ogg"), made_by="x")).encode()
    assert problems(data) == ["made_by", "forms[0].audio"]
    assert read_catalogue(data, unknown="ignore").forms[0].cerfa == "10840"


def test_a_form_is_good_on_its_last_day_and_not_the_day_after() -> None:
    limited = build(Form, form(not_after="2026-12-31"))
    assert not limited.expired(date(2026, 12, 31))
    assert limited.expired(date(2027, 1, 1))
    assert not build(Form, form()).expired(date(9999, 1, 1))


def test_each_way_in_which_a_file_is_not_whole_has_a_word(tmp_path: Path) -> None:
    whole = build(Form, form())
    file = tmp_path / whole.file
    assert flaw(tmp_path, whole) == "absent"
    file.write_bytes(pdf("10840") + b"\n")
    assert flaw(tmp_path, whole) == "wrong-size"
    file.write_bytes(pdf("10841"))
    assert flaw(tmp_path, whole) == "wrong-content"
    file.write_bytes(b"<html>0123456789")
    assert flaw(tmp_path, build(Form, form(data=b"<html>0123456789"))) == "no-pdf"
    file.write_bytes(pdf("10840"))
    assert flaw(tmp_path, whole) is None


def test_no_link_leads_out_of_the_folder_and_a_pipe_hangs_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(pdf("10840"))
    cache = furnish(tmp_path / "cache", form())
    one = build(Form, form())
    for replace in (lambda file: file.symlink_to(secret), os.mkfifo, Path.mkdir):
        file = cache / one.file
        file.unlink()
        replace(file)
        assert flaw(cache, one) == "no-file"
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        file.touch()
    catalogue_file = cache / "catalogue.json"
    catalogue_file.rename(tmp_path / "elsewhere.json")
    catalogue_file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(Invalid, match="no regular file"):
        catalogue_in(cache)


def test_a_folder_holds_what_its_catalogue_names_and_nothing_else(tmp_path: Path) -> None:
    folder = furnish(tmp_path, form("10840"), form("13750"), form("12100*02", withdrawn=True), form("15646*01", withdrawn=True))
    (folder / "13750.pdf").unlink()
    (folder / "12100-02.pdf").unlink()  # withdrawn: it may go
    (folder / "15646-01.pdf").write_bytes(b"rubbish")  # withdrawn: but what lies there has to be right
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    found = [(problem.path, problem.message) for problem in folder_problems(folder, catalogue_in(folder))]
    assert found == [
        ("13750.pdf", "it is missing"),
        ("15646-01.pdf", "its size is not what the catalogue says"),
        ("more", "the catalogue does not name it"),
        ("notes.txt", "the catalogue does not name it"),
    ]
    assert folder_problems(folder, catalogue_in(folder), ["more", "notes.txt"])[2:] == []
