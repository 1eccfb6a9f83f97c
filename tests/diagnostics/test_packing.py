"""A bundle within its size, and the process that makes it."""

import gzip
import json
import random
from typing import Any

import pytest

from agent.diagnostics.__main__ import bundle
from agent.diagnostics.packing import TooSmall, packed
from agent.rules.bundle import unpacked
from agent.system.collecting import NotMade, collected
from tests.diagnostics.question import question


def with_lines(count: int) -> dict[str, Any]:
    """A bundle with lines that compress as badly as real ones do at worst."""
    dice = random.Random(1)
    made = bundle(question())
    made["journal"]["entries"] = [{"at": str(number), "message": dice.randbytes(40).hex()} for number in range(count)]
    return made


def test_what_fits_goes_whole() -> None:
    whole = with_lines(10)
    assert unpacked(packed(whole, 256 * 1024)) == json.loads(json.dumps(whole)) | {
        "left_out": {"journal_entries": 0, "sections": []}
    }


@pytest.mark.parametrize("max_bytes", [8 * 1024, 64 * 1024, 200 * 1024])
def test_the_oldest_lines_go_first_and_are_counted(max_bytes: int) -> None:
    found = packed(with_lines(5000), max_bytes)
    assert 0.85 * max_bytes < len(found) <= max_bytes
    read = unpacked(found)
    kept = read["journal"]["entries"]
    assert kept[-1]["at"] == "4999"
    assert read["left_out"] == {"journal_entries": 5000 - len(kept), "sections": []}


def test_then_whole_sections_go_and_are_named() -> None:
    least = len(gzip.compress(json.dumps(bundle(question())).encode(), 6))
    read = unpacked(packed(with_lines(5000), int(least * 0.8)))
    assert read["journal"]["entries"] == []
    assert read["left_out"]["sections"][0] == "counts"
    assert read["peripherals"]["document-printer"]["findings"], "what is wrong stays"


def test_what_cannot_fit_is_said() -> None:
    with pytest.raises(TooSmall, match="max_bytes"):
        packed(with_lines(1), 200)


async def test_the_process_makes_a_bundle_and_is_gone() -> None:
    async with collected(question()) as made:
        whole = made.piece(0, made.size)
        assert len(whole) == made.size
        assert unpacked(whole)["booth"] == "61-0007"


@pytest.mark.parametrize(
    ("over", "why"), [({"area": "../x"}, "status 1"), ({"max_bytes": 100}, "max_bytes"), ({"max_bytes": None}, "status 1")]
)
async def test_a_process_that_makes_none_is_said(over: dict[str, Any], why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotMade, match=why):
        async with collected(question() | over):
            pass
    capfd.readouterr()


async def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(NotMade, match=r"no answer in 0\.05 s"):
        async with collected(question(), deadline_s=0.05):
            pass
