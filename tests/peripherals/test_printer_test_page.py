"""The bytes of the test page."""

import re

import pytest

from agent.peripherals.printer_test_page import PDF, RAW, TEXT, page

DATE = "26/11/2026 14:30"


def test_pdf_is_preferred_and_each_object_is_where_its_table_says() -> None:
    format_, document = page([TEXT, PDF], DATE, raw=False)
    assert format_ == PDF
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", document)[0])
    assert document[start:].startswith(b"xref\n0 6\n")
    offsets = [int(entry) for entry in re.findall(rb"(\d{10}) 00000 n ", document[start:])]
    for number, offset in enumerate(offsets, 1):
        assert document[offset:].startswith(b"%d 0 obj\n" % number)
    (length,) = re.findall(rb"/Length (\d+) >>\nstream\n", document)
    content = document.split(b"stream\n", 1)[1]
    assert content[int(length) :].startswith(b"\nendstream")
    for words in ("Page d'essai", "€", "œuvre", "«", "É", DATE):
        assert words.encode("cp1252") in content
    assert len(document) < 4096


def test_a_queue_without_a_driver_gets_characters_that_every_printer_has() -> None:
    format_, document = page([PDF, TEXT], DATE, raw=True)
    assert format_ == RAW
    text = document.decode("ascii")
    assert text.startswith("Page d'essai\r\n")
    assert "12,50 EUR" in text
    assert "oeuvre" in text
    assert text.endswith("\f"), "the sheet comes out"
    assert all(len(line) <= 80 for line in text.split("\r\n"))


def test_a_queue_that_takes_text_alone_gets_all_letters() -> None:
    format_, document = page([TEXT], DATE, raw=False)
    assert format_ == TEXT
    assert "« guillemets »" in document.decode()


def test_a_queue_that_takes_neither_is_told() -> None:
    with pytest.raises(ValueError, match="neither"):
        page(["image/urf"], DATE, raw=False)
