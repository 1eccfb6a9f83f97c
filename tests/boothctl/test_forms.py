"""`boothctl forms check | pack | publish`: what an operator does between a folder of PDFs and a booth."""

import hashlib
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.contract.documents import Document, read_document
from agent.contract.envelope import open_envelope
from agent.updates.archive import unpack
from agent.updates.forms import good_catalogue
from tests.boothctl.desk import Desk
from tests.boothctl.stand_in import applies, booths
from tests.documents.operator import Operator
from tests.forms_folder import SHIPPED, form, furnish, shipped
from tests.world import World, world

TOPIC = "booth/v1/61/_all/update/desired"
AGENT = {
    "version": "1.4.0",
    "artifacts": {"arm64": {"url": "https://updates.example/booth-agent-1.4.0-arm64.tar", "size_bytes": 9, "sha256": "ab" * 32}},
}


@asynccontextmanager
async def desk_world(folder: Path) -> AsyncIterator[World]:
    """A broker and its observer, whose sockets do not wait for the collector of garbage."""
    async with world(folder) as w:
        yield w
    w.observer._client._reset_sockets()


def in_days(days: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days)).isoformat()


def url(w: World) -> str:
    return f"mqtt://127.0.0.1:{w.broker.port}"


def lying(w: World) -> Document:
    return read_document(open_envelope(w.observer.retained[TOPIC].payload).payload)


# --- check ---


async def test_the_forms_that_ship_are_good(tmp_path: Path) -> None:
    done = await Desk(tmp_path).run("forms", "check", SHIPPED)
    assert (done.out, done.err) == ("good: catalogue 2026-11-01, 10 forms\n", "")


async def test_every_problem_of_a_folder_is_said_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    folder = furnish(tmp_path / "forms", form("10840"), form("13750"), form("12669*02"))
    (folder / "10840.pdf").unlink()
    (folder / "13750.pdf").write_bytes(b"%PDF")
    (folder / "leaflet.pdf").touch()
    done = await desk.run("forms", "check", "forms", status=1)
    assert done.err.splitlines() == [
        "boothctl: 10840.pdf: it is missing",
        "boothctl: 13750.pdf: its size is not what the catalogue says",
        "boothctl: leaflet.pdf: the catalogue does not name it",
    ]
    furnish(folder, form("10840", copies=0, verified_on="yesterday"))
    done = await desk.run("forms", "check", "forms", status=1)
    assert [line.split(": ")[1:3] for line in done.err.splitlines()] == [
        ["catalogue.json", "forms[0].verified_on"], ["catalogue.json", "forms[0].copies"],
    ]  # fmt: skip
    assert "No such file" in (await desk.run("forms", "check", "nowhere", status=1)).err


async def test_what_expires_within_sixty_days_is_warned_about_and_is_no_failure(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    furnish(
        tmp_path / "forms", form("10840", not_after=in_days(58)), form("13750", not_after=in_days(62)),
        form("12669*02", not_after=in_days(-2)), form("15646*01", withdrawn=True, not_after=in_days(-9)),
    )  # fmt: skip
    done = await desk.run("forms", "check", "forms")
    assert done.out == "good: catalogue 2026-11-01, 3 forms and 1 withdrawn\n"
    said = [line.removeprefix("boothctl: ").partition(":")[0] for line in done.err.splitlines()]
    assert said == ["10840", "12669*02", "15646*01"]
    assert f"good until {in_days(58)} only" in done.err
    assert f"expired since {in_days(-2)}" in done.err
    machine = (await desk.run("forms", "check", "forms", "--json")).json
    assert (machine["catalogue"], machine["forms"], len(machine["warnings"])) == ("2026-11-01", 4, 3)


# --- pack ---


async def test_packing_twice_anywhere_gives_the_same_file_that_a_booth_takes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = await desk.run("forms", "pack", SHIPPED, "-o", "forms.tar")
    data = (tmp_path / "forms.tar").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert done.out == f"packed: catalogue 2026-11-01, 10 forms\n{len(data)} bytes, sha256 {digest}\n"
    again = (await desk.run("forms", "pack", shipped(tmp_path / "elsewhere"), "-o", "again.tar", "--json")).json
    assert again == {"file": "again.tar", "catalogue": "2026-11-01", "size_bytes": len(data), "sha256": digest}
    (tmp_path / "files").mkdir()
    unpack(tmp_path / "forms.tar", tmp_path / "files")
    assert len(good_catalogue(tmp_path / "files").forms) == 10


async def test_a_folder_that_a_booth_would_refuse_is_not_packed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    folder = furnish(tmp_path / "forms", form("10840"))
    inside = await desk.run("forms", "pack", "forms", "-o", "forms/forms.tar", status=2)
    assert "where only forms may lie" in inside.err
    assert "no/such/forms.tar" in (await desk.run("forms", "pack", "forms", "-o", "no/such/forms.tar", status=1)).err
    (folder / "10840.pdf").write_bytes(b"<html>")
    assert "10840.pdf" in (await desk.run("forms", "pack", "forms", "-o", "forms.tar", status=1)).err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["forms"]


# --- publish ---


async def packed(desk: Desk) -> dict[str, Any]:
    done = await desk.run("forms", "pack", SHIPPED, "-o", "forms.tar", "--json")
    return {"size_bytes": done.json["size_bytes"], "sha256": done.json["sha256"]}


async def test_a_catalogue_is_signed_and_published_for_an_audience(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    artifact = await packed(desk)
    async with desk_world(tmp_path) as w, booths(w, b61_0007=applies):
        publish = ("forms", "publish", "forms.tar", "61", "--key", "ann.pem", "--broker", url(w))
        done = await desk.run(*publish, "--url", "https://updates.example/f/", "--window", "closed")
        assert done.out == "published: update for booth/v1/61/_all, revision 1, epoch 1: forms\n"
        assert f"version {artifact['sha256'][:12]} in reports" in done.err
        assert lying(w).doc == {
            "forms": {"catalogue": {"url": "https://updates.example/f/forms.tar"} | artifact, "window": "closed"}
        }
        await desk.run(*publish, "--url", "https://updates.example/other.tar")
        assert lying(w).rev == 2
        assert lying(w).doc == {"forms": {"catalogue": {"url": "https://updates.example/other.tar"} | artifact}}
    desk.assert_no_key_was_told()


async def test_publishing_forms_takes_no_version_of_the_agent_away(tmp_path: Path) -> None:
    """A document is its whole layer: one without `agent` would end that booths are kept at their version."""
    desk = Desk(tmp_path)
    desk.keys("ann")
    await packed(desk)
    async with desk_world(tmp_path) as w:
        before = Operator().sign(
            "update", {"agent": AGENT, "forms": {"catalogue": {}}}, 6, "booth/v1/61/_all", keys=[desk.key("ann")]
        )
        w.observer.publish(TOPIC, before, retain=True)
        done = await desk.run(
            "forms", "publish", "forms.tar", "61", "--key", "ann.pem", "--broker", url(w), "--url", "http://127.0.0.1/f/"
        )
        assert "revision 7" in done.out
        assert lying(w).doc["agent"] == AGENT
        assert lying(w).doc["forms"]["catalogue"]["url"] == "http://127.0.0.1/f/forms.tar"


async def test_what_a_stranger_laid_there_is_not_signed_along(tmp_path: Path) -> None:
    """A broker that was taken over could else have any version of the agent signed, by whoever publishes forms."""
    desk, operator = Desk(tmp_path), Operator()
    desk.keys("ann")
    desk.write("trust.json", operator.trust())
    await packed(desk)
    async with desk_world(tmp_path) as w:
        publish = ("forms", "publish", "forms.tar", "61", "--key", "ann.pem", "--broker", url(w), "--url", "http://127.0.0.1/f/")
        w.observer.publish(TOPIC, operator.sign("update", {"agent": AGENT}, 6, "booth/v1/61/_all"), retain=True)
        done = await desk.run(*publish, status=1)
        assert "agent of revision 6, which lies there too, would be signed anew" in done.err
        assert lying(w).rev == 6
        await desk.run(*publish, "--trust", "trust.json")
        assert lying(w).doc.keys() == {"agent", "forms"}


async def test_what_no_booth_would_take_is_not_published(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    await packed(desk)
    (tmp_path / "notes.tar").write_text("x" * 2000)
    with tarfile.open(tmp_path / "less.tar", "w:") as tar:
        tar.add(SHIPPED / "catalogue.json", "catalogue.json")
    refused = {
        ("forms.tar", "ftp://updates.example/"): "an http:// or https:// address",
        ("nowhere.tar", "https://updates.example/"): "No such file",
        ("notes.tar", "https://updates.example/"): "bad-archive",
        ("less.tar", "https://updates.example/"): "10840.pdf: it is missing",
    }
    async with desk_world(tmp_path) as w:
        for (file, place), text in refused.items():
            publish = ("forms", "publish", file, "61", "--url", place, "--broker", url(w))
            assert text in (await desk.run(*publish, "--key", "ann.pem", status=1)).err
        assert "give --key" in (await desk.run(*publish, status=2)).err
        assert TOPIC not in w.observer.retained
