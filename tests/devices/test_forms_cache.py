"""The forms cache: looked at in a worker, watched by the kernel, and no file opened on the loop."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.contract import forms
from agent.contract.forms import MAX_FORMS
from agent.devices import forms_cache
from agent.devices.workers import RESULT_LIMIT, Workers
from tests.forms_folder import catalogue, form, furnish


async def look(folder: Path) -> dict[str, Any]:
    workers = Workers()
    try:
        return await workers.call(str(folder), "agent.devices.forms_cache:look", {"folder": str(folder)}, 20)
    finally:
        assert workers.alive == 0


class Told:
    """Counts what is announced."""

    def __init__(self) -> None:
        self.times = 0
        self._news = asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self._news.set()

    async def once_more(self) -> None:
        async with asyncio.timeout(10):
            await self._news.wait()
        self._news.clear()


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[forms_cache.Changes, Told]]:
    told = Told()
    changes = forms_cache.Changes(folder, told)
    try:
        changes.follow()
        yield changes, told
    finally:
        changes.close()
        changes.close()


def switch(link: Path, target: str) -> None:
    """As root does it."""
    fresh = link.with_name("current.new")
    fresh.symlink_to(target)
    fresh.rename(link)


# --- what is in it ---


async def test_a_worker_says_of_each_form_whether_its_file_is_whole(tmp_path: Path) -> None:
    furnish(tmp_path, form("10840"), form("13750", not_after="2026-12-31"), form("15646*01", withdrawn=True))
    (tmp_path / "13750.pdf").write_bytes(b"%PDF")
    (tmp_path / "15646-01.pdf").unlink()
    common = {"verified_on": "2026-11-01"}
    assert await look(tmp_path) == {
        "trouble": None,
        "version": "2026-11-01",
        "forms": [
            common | {"cerfa": "10840", "not_after": None, "withdrawn": False, "flaw": None},
            common | {"cerfa": "13750", "not_after": "2026-12-31", "withdrawn": False, "flaw": "wrong-size"},
            common | {"cerfa": "15646*01", "not_after": None, "withdrawn": True, "flaw": "absent"},
        ],
    }


async def test_why_there_is_no_catalogue_is_said_and_a_newer_one_is_read(tmp_path: Path) -> None:
    assert await look(tmp_path / "nowhere") == {"trouble": "catalogue.json: No such file or directory"}
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue(form(copies=0))))
    trouble = (await look(tmp_path))["trouble"]
    assert trouble == "catalogue.json: forms[0].copies: write a number from 1 to 9 (here: 0)"
    furnish(tmp_path, form(audio="lu.ogg"))
    assert (await look(tmp_path))["trouble"] is None


def test_a_switch_in_the_middle_of_a_look_mixes_no_two_catalogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(tmp_path / "slots" / "a", form("10840"), form("13750"))
    furnish(tmp_path / "slots" / "b", form("15776*02"))
    link = tmp_path / "current"
    link.symlink_to("slots/a")
    read = forms.catalogue_in

    def switched_behind(folder: Path, **how: Any) -> forms.Catalogue:
        found = read(folder, **how)
        switch(link, "slots/b")
        return found

    monkeypatch.setattr(forms, "catalogue_in", switched_behind)
    answer = forms_cache.look({"folder": str(link)})
    assert [(one["cerfa"], one["flaw"]) for one in answer["forms"]] == [("10840", None), ("13750", None)]


async def test_the_answer_about_the_longest_catalogue_fits_a_workers_pipe(tmp_path: Path) -> None:
    furnish(tmp_path, *(form(f"{10000 + number}*01", not_after="2026-12-31") for number in range(MAX_FORMS)))
    answer = await look(tmp_path)
    assert len(answer["forms"]) == MAX_FORMS
    assert len(json.dumps(answer)) < RESULT_LIMIT / 2


async def test_a_huge_file_costs_no_memory(tmp_path: Path) -> None:
    """64 MiB, read in a process that may use half of that more than one that reads none."""
    furnish(tmp_path, form("10840", data=b"%PDF-" + bytes(64 * 2**20 - 5)))
    os.truncate(tmp_path / "10840.pdf", 64 * 2**20)  # a hole behind the first bytes: nothing of it lies on disk
    with open(tmp_path / "10840.pdf", "r+b") as file:
        file.write(b"%PDF-" + bytes(100))
    peak = (
        "import json, resource, sys; from agent.devices.forms_cache import look; "
        "said = look({'folder': sys.argv[1]}); print(json.dumps([said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))"
    )
    measured = []
    for folder in (tmp_path, tmp_path / "nowhere"):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            peak,
            str(folder),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        out, _ = await process.communicate()
        measured.append(json.loads(out))
    (read, with_file_kib), (_, without_kib) = measured
    assert read["forms"][0]["flaw"] is None
    assert with_file_kib - without_kib < 32 * 1024


# --- whether it has changed ---


def test_a_stamp_changes_with_every_file_and_with_the_folder_behind_the_link(tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert forms_cache.stamp(link) is None
    for slot in ("a", "b"):
        furnish(tmp_path / "slots" / slot, form("10840"), form("13750"))
    link.symlink_to("slots/a")
    seen = [forms_cache.stamp(link)]
    assert seen[0] == forms_cache.stamp(link)

    def changed(act: Callable[[], object]) -> None:
        act()
        now = forms_cache.stamp(link)
        assert now not in seen
        seen.append(now)

    changed((tmp_path / "slots/a/10840.pdf").unlink)
    changed((tmp_path / "slots/a/10840.pdf").touch)
    changed(lambda: os.utime(tmp_path / "slots/a/13750.pdf", (1, 1)))
    changed(lambda: (tmp_path / "slots/a/13750.pdf").write_bytes(b"%PDF"))
    changed(lambda: switch(link, "slots/b"))
    (tmp_path / "slots/b/catalogue.json").chmod(0o600)
    assert forms_cache.stamp(link) == seen[-1], "who may read it is no other content"
    link.unlink()
    link.write_text("no folder")
    assert forms_cache.stamp(link) is None


def test_a_folder_full_of_rubbish_is_not_read_to_its_end(tmp_path: Path) -> None:
    for number in range(MAX_FORMS * 2):
        (tmp_path / f"{number}.pdf").touch()
    stamp = forms_cache.stamp(tmp_path)
    assert stamp is not None
    assert len(stamp) < MAX_FORMS * 2


# --- what the kernel tells ---


async def test_a_switch_of_the_link_is_told_at_once_and_the_new_folder_is_watched(tmp_path: Path) -> None:
    for slot in ("a", "b"):
        furnish(tmp_path / "slots" / slot, form())
    link = tmp_path / "current"
    link.symlink_to("slots/a")
    async with watched(link) as (changes, told):
        switch(link, "slots/b")
        await told.once_more()
        changes.follow()
        (tmp_path / "slots/b/10840.pdf").unlink()
        await told.once_more()


@pytest.mark.parametrize(
    "act",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.rename(file.with_name("x.pdf")),
        lambda file: file.chmod(0),
        lambda file: shutil.rmtree(file.parent),
    ],
    ids=["deleted", "written", "renamed", "closed", "all gone"],
)
async def test_whatever_happens_to_a_form_is_told(tmp_path: Path, act: Callable[[Path], object]) -> None:
    folder = furnish(tmp_path / "forms", form())
    async with watched(folder) as (_, told):
        act(folder / "10840.pdf")
        await told.once_more()


async def test_what_is_laid_out_beside_it_or_read_is_not_told(tmp_path: Path) -> None:
    furnish(tmp_path / "slots" / "a", form())
    link = tmp_path / "current"
    link.symlink_to("slots/a")
    async with watched(link) as (changes, told):
        (tmp_path / "incoming").mkdir()
        (tmp_path / "current.new").touch()
        furnish(tmp_path / "slots" / "b", form())
        (link / "10840.pdf").read_bytes()
        changes.follow()
        changes.follow()
        (tmp_path / "slots/a/last").touch()  # events come in their order: this one closes the case
        await told.once_more()
        assert told.times == 1


async def test_a_link_that_appears_later_is_told_and_where_nothing_can_be_watched_nothing_breaks(tmp_path: Path) -> None:
    async with watched(tmp_path / "current") as (_, told):
        (tmp_path / "current").mkdir()
        await told.once_more()
    async with watched(tmp_path / "no" / "such" / "current") as (changes, told):
        changes.follow()
        assert told.times == 0
