"""Any text onto any paper: escaped, capped, in letters that the printer has, and broken between words."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.devices.receipt_layout import laid_out, spelled, wrapped
from agent.ticket.paragraphs import Paragraph, plain_paragraphs
from agent.ticket.ticket import ticket
from tests.ticket.situations import BROKEN, trouble

WIDTHS = (32, 42)


def in_page(page: str) -> Callable[[str], bool]:
    def has(letter: str) -> bool:
        try:
            letter.encode(page)
        except UnicodeEncodeError:
            return False
        return True

    return has


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("un", ["un"]),
        ("un deux trois", ["un deux", "trois"]),
        ("un deuxièmement", ["un", "  deuxième", "  ment"]),
        ("anticonstitutionnellement", ["anticonsti", "  tutionne", "  llement"]),
        ("a\u00a0b\u00a0c d\u00a0e\u00a0f", ["a b c", "  d e f"]),
        ("  un   deux ", ["un deux"]),
    ],
)
def test_lines_break_between_words(text: str, lines: list[str]) -> None:
    hang = 2 if any(line.startswith("  ") for line in lines) else 0
    assert wrapped(text, 10, hang) == lines


@given(
    st.lists(st.text(st.characters(codec="latin-1", categories=["L"]), min_size=1, max_size=30), max_size=30), st.integers(4, 48)
)
def test_no_word_that_fits_is_cut_and_none_is_lost(words: list[str], columns: int) -> None:
    lines = wrapped(" ".join(words), columns, hang=2)
    assert all(len(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(words)
    fitting = [word for word in words if len(word) <= columns - 2]
    if len(fitting) == len(words):
        assert " ".join(lines).split() == words


@given(st.text())
@example("e\u0301")  # not composed
@example("\u202eLRO\u2066 \U0001f600 שלום \x1b@\x10\x04\x01\x1dV\x00\ud800")
def test_f66_no_control_byte_comes_of_any_text(text: str) -> None:
    for page in ("cp1252", "cp858", "cp437"):
        shown = spelled(text, in_page(page)).replace("\u00a0", " ")
        data = shown.encode(page)
        assert all(byte >= 0x20 and byte != 0x7F for byte in data)
    assert spelled("e\u0301", in_page("cp858")) == "é"


@given(st.text(), st.text(max_size=5000), st.sampled_from(WIDTHS))
@example("\x1b@" * 5000, "\x1dV\x00\n\r\x10\x14\x08", 32)
@example("\U0001f5a8\ufe0f \u05e9\u05dc\u05d5\u05dd \u202e", "ＦＵＬＬ", 42)
def test_f66_what_a_device_says_of_itself_comes_out_escaped_and_capped(device: str, remedy: str, columns: int) -> None:
    situation = _with_strangers(device, remedy)
    paragraphs = plain_paragraphs(ticket(situation))
    lines = laid_out(paragraphs, columns, in_page("cp858"))
    assert all(len(text) * (2 if style == "large" else 1) <= columns for style, text in lines)
    assert len(lines) < 100
    for _, text in lines:
        assert all(byte >= 0x20 and byte != 0x7F for byte in text.encode("cp858"))
    said = [paragraph["text"] for paragraph in paragraphs if "Appareil" in paragraph["text"]]
    assert all(len(text) <= 60 + len("  Appareil : ") for text in said)


def _with_strangers(device: str, remedy: str) -> Any:
    from dataclasses import replace  # noqa: PLC0415

    from agent.ticket.ticket import Attempt  # noqa: PLC0415

    broken = trouble("scanner", "io-error", device=device, attempts=(Attempt(remedy, remedy, BROKEN.now or _never()),))
    return replace(BROKEN, troubles=(broken,), phone=device, booth=device, services={device: "down"})


def _never() -> Any:
    raise AssertionError


def test_what_is_too_long_for_a_pocket_is_cut_off() -> None:
    endless = [Paragraph("x" * 100_000)] * 1000
    lines = laid_out(plain_paragraphs(endless), 32, lambda _: True)
    assert len(lines) == 200
