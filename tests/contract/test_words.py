"""Words, and texts from outside as they may be published."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.decode import decode, encode
from agent.contract.event import DATA_LIMIT_BYTES, capped_data
from agent.contract.typed import Invalid, build
from agent.contract.words import Area, BoothId, Name, Timestamp, capped, is_loopback, printable


def fits(type_: Any, value: str) -> bool:
    try:
        build(type_, value)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("TM-T88III", "TM-T88III"),
        ("Imprimante à tickets – 3 €", "Imprimante à tickets – 3 €"),
        ("  padded \n", "padded"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\x9b31mb\x7f", "a\\x9b31mb\\x7f"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("half \ud800 pair", "half \\ud800 pair"),
        ("\U000e0041", "\\U000e0041"),
        ("", ""),
    ],
)
def test_what_a_device_says_is_published_without_control_characters(text: str, harmless: str) -> None:
    assert printable(text) == harmless


@given(st.text(st.characters()), st.integers(2, 200))
def test_whatever_it_says_the_result_is_printable_short_and_can_be_encoded(text: str, limit: int) -> None:
    result = printable(text, limit)
    assert result.isprintable()
    assert len(result) <= limit
    result.encode()
    assert printable(result, limit) == result, "and is not changed again"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert printable("x" * 129) == "x" * 127 + "…"
    assert printable("x" * 128) == "x" * 128


def test_every_text_in_plain_data_is_capped_keys_too() -> None:
    assert capped({"a\x1b": ["\x07", 1, None, {"b": "x" * 500}], "n": 1.5, "t": ("\n",)}) == {
        "a\\x1b": ["\\x07", 1, None, {"b": "x" * 127 + "…"}],
        "n": 1.5,
        "t": [""],
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_no_word_for_becomes_null(number: float) -> None:
    assert capped_data({"rtt_ms": number, "of": [number, 1.0]}) == {"rtt_ms": None, "of": [None, 1.0]}


def test_data_of_an_event_of_the_limits_size_is_kept_and_more_is_dropped_with_its_size() -> None:
    entries = {f"key-{number:03}": "x" * 100 for number in range(200)}
    dropped = capped_data(entries)
    assert dropped == {"dropped": "too large", "size_bytes": len(encode(entries))}
    fitting = {key: entries[key] for key in list(entries)[:140]}
    assert len(encode(fitting)) < DATA_LIMIT_BYTES
    assert capped_data(fitting) == fitting


_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(st.characters()), _data))
def test_whoever_made_the_data_of_an_event_it_can_be_encoded_and_is_bounded(data: dict[str, Any]) -> None:
    safe = capped_data(data)
    assert len(encode(safe)) <= DATA_LIMIT_BYTES
    assert decode(encode(safe)) == safe


@pytest.mark.parametrize("name", ["a", "61", "receipt-printer", "a-1-b", "a" * 64])
def test_names_are_kebab_case(name: str) -> None:
    assert fits(Name, name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a--b", "A", "a_b", "a b", "é", "a/b", "a\n", "a" * 65, "٣"])
def test_and_nothing_else(name: str) -> None:
    assert not fits(Name, name)


def test_areas_and_booths_have_their_lengths() -> None:
    assert fits(Area, "6") and fits(Area, "a" * 32) and not fits(Area, "a" * 33) and not fits(Area, "_all")
    assert fits(BoothId, "abc") and fits(BoothId, "a" * 40) and not fits(BoothId, "ab") and not fits(BoothId, "a" * 41)


@pytest.mark.parametrize("time", ["2026-10-06T12:32:00.000Z", "1970-01-01T00:00:00.000Z"])
def test_times_are_utc_with_milliseconds(time: str) -> None:
    assert fits(Timestamp, time)


@pytest.mark.parametrize(
    "time",
    [
        "2026-10-06T12:32:00Z", "2026-10-06T12:32:00.000+00:00", "2026-10-06 12:32:00.000Z", "2026-10-06T12:32:00.000z",
        "2026-10-06T12:32:00.000", "2026-10-06T12:32:00.000000Z", "٢٠٢٦-10-06T12:32:00.000Z", "2026-10-06T12:32:00.000Z\n",
    ],
)  # fmt: skip
def test_no_other_form_of_a_time_is_taken(time: str) -> None:
    assert not fits(Timestamp, time)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_these_can_only_mean_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.example", "127.0.0.1.example", "x127.0.0.1", "127.0.0", "128.0.0.1", "::2", "0.0.0.0", "127.0.0.1\n"]
)
def test_these_cannot(host: str) -> None:
    assert not is_loopback(host)
