"""JSON from outside: whatever arrives, it is decoded within limits or refused with a sentence."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.decode import MAX_BYTES, MAX_DEPTH, BadJson, TooLarge, decode, decode_object, encode


def refused(data: bytes) -> str:
    with pytest.raises(BadJson) as caught:
        decode(data)
    return str(caught.value)


def test_good_json_is_what_python_reads() -> None:
    data = '{"é":[1,-2.5e3,true,null,"\\u20ac\\ud83d\\ude00"],"":{}}'.encode()
    assert decode(data) == json.loads(data) == {"é": [1, -2500.0, True, None, "€😀"], "": {}}


def test_a_message_of_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    fits = b'"' + b"a" * (MAX_BYTES - 2) + b'"'
    assert len(decode(fits)) == MAX_BYTES - 2
    with pytest.raises(TooLarge, match=f"{MAX_BYTES + 1} bytes; at most {MAX_BYTES}"):
        decode(fits + b" ")
    with pytest.raises(TooLarge):
        decode(b'"abc"', max_bytes=4)


def test_too_large_is_said_before_anything_else_is_looked_at() -> None:
    with pytest.raises(TooLarge):
        decode(b"\xff" * (MAX_BYTES + 1))


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', '"é"'.encode("latin-1")])
def test_what_is_not_utf8_is_refused_with_its_place(data: bytes) -> None:
    assert "is not UTF-8" in refused(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_no_other_encoding_is_guessed_and_no_byte_order_mark_taken(encoding: str) -> None:
    data = '{"a":1}'.encode(encoding)
    assert json.loads(data) == {"a": 1}, "Python itself would take it"
    refused(data)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def test_thirty_two_levels_are_read_and_thirty_three_are_not() -> None:
    decode(nested(MAX_DEPTH))
    assert refused(nested(MAX_DEPTH + 1)) == "nested deeper than 32"


@pytest.mark.parametrize("data", [nested(100_000), b"[" * 100_000, b'{"a":' * 40_000, b"[{" * 50_000 + b"]"])
def test_a_hundred_thousand_levels_are_refused_and_no_recursion_error(data: bytes) -> None:
    assert refused(data) == "nested deeper than 32"


def test_brackets_in_texts_are_no_levels() -> None:
    for text in ("[" * 1000, '\\"' + "{" * 100, "\\\\", "\\\\\\" + '"' + "[" * 50):
        assert decode(f'["{text}"]'.encode()) == [json.loads(f'"{text}"')]


def test_brackets_that_only_close_make_no_room_for_more() -> None:
    refused(b"]" * 1000 + b"[" * 100_000)


@pytest.mark.parametrize("data", [b'{"a":1,"a":1}', b'{"a":1,"b":{"c":1,"c":2}}', b'[{"a":1,"\\u0061":2}]'])
def test_a_key_that_stands_there_twice_is_refused(data: bytes) -> None:
    assert "stands there twice" in refused(data)


def test_the_same_key_in_two_objects_is_no_double() -> None:
    assert decode(b'{"a":{"a":1},"b":{"a":2}}') == {"a": {"a": 1}, "b": {"a": 2}}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400 + "e1", "9" * 309 + ".0"])
def test_what_is_no_finite_number_is_refused(number: str) -> None:
    for text in (number, f"[{number}]", f'{{"a":{number}}}'):
        refused(text.encode())


def test_five_thousand_digits_are_refused_and_cost_nothing() -> None:
    assert refused(b"9" * 5000) == "a number of 5000 digits"
    refused(b"[-" + b"9" * 200_000 + b"]")
    assert decode(b"9" * 300) == 10**300 - 1


@pytest.mark.parametrize("data", [rb'"\ud800"', rb'"\udc00\ud800"', rb'{"\ud800":1}', rb'[["a\udfffb"]]'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(data: bytes) -> None:
    assert refused(data) == "a text holds half of a surrogate pair"


@pytest.mark.parametrize("data", [b"", b" ", b"{", b"tru", b"'a'", b"{a:1}", b"[1,]", b"01", b"1 2", b'"\n"', b"{}x", b"\x00"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    assert refused(data).startswith("no JSON at line ")


def test_the_place_of_a_mistake_is_said() -> None:
    assert refused(b'{"a":1,\n "b" 2}').startswith("no JSON at line 2, column 6")


@pytest.mark.parametrize("data", [b"[]", b"1", b'"{}"', b"null", b"true"])
def test_an_object_is_asked_for_where_only_an_object_will_do(data: bytes) -> None:
    decode(data)
    with pytest.raises(BadJson, match="the outermost value is not an object"):
        decode_object(data)


def test_what_is_written_is_compact_utf8() -> None:
    assert encode({"é": [1, None, 0.5], "b": "\n"}) == '{"é":[1,null,0.5],"b":"\\n"}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_what_json_has_no_word_for_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(value)


# --- properties ---

_text = st.text(st.characters(exclude_categories=["Cs"]))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=20,
)
_jsonish = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", '"a"', '"', ":", ",", "1", "-", "e9", "1e999", "NaN", "null", "\\ud800", "\\", " ", "\n"]
    )
).map(lambda parts: "".join(parts).encode())


@given(st.binary() | _jsonish | _text.map(str.encode))
def test_arbitrary_bytes_are_decoded_or_raise_bad_json_and_nothing_else(data: bytes) -> None:
    try:
        value = decode(data)
    except BadJson as error:
        assert str(error)
    else:
        assert decode(encode(value)) == value


@given(_json)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert decode(encode(value)) == value
