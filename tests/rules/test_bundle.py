"""The pieces of a bundle: in any order, twice, or lost; and what is said of each that does not fit."""

import base64
import gzip
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.bundle import (
    CHUNK_BYTES,
    MAX_BYTES,
    MAX_CHUNKS,
    MAX_UNPACKED_BYTES,
    Assembly,
    NotWhole,
    chunk,
    chunks_of,
    unpacked,
)

BUNDLE = random.Random(1).randbytes(3 * CHUNK_BYTES + 5)


def cut(bundle: bytes) -> list[bytes]:
    of = chunks_of(len(bundle))
    return [chunk(bundle[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES], number, of) for number in range(of)]


def result(bundle: bytes, **over: Any) -> dict[str, Any]:
    said = {"chunks": chunks_of(len(bundle)), "bytes": len(bundle), "sha256": hashlib.sha256(bundle).hexdigest()}
    return said | {"format": "json+gzip"} | over


def fault(assembly: Assembly, said: Any) -> str:
    with pytest.raises(NotWhole) as caught:
        assembly.bundle(said)
    assert str(caught.value)
    return caught.value.fault


SIZES = st.integers(min_value=1, max_value=5 * CHUNK_BYTES)


@given(SIZES, st.data())
def test_any_order_and_any_repetition_makes_the_same_bundle(size: int, data: st.DataObject) -> None:
    bundle = random.Random(size).randbytes(size)
    pieces = cut(bundle)
    order = data.draw(st.permutations(range(len(pieces))))
    again = data.draw(st.lists(st.sampled_from(range(len(pieces))), max_size=5))
    assembly = Assembly()
    assert [assembly.take(pieces[number]) for number in order] == [True] * len(pieces)
    assert not any(assembly.take(pieces[number]) for number in again)
    assert (assembly.missing, assembly.taken, assembly.of) == ((), len(pieces), len(pieces))
    assert assembly.bundle(result(bundle)) == bundle


@given(SIZES, st.data())
def test_what_was_lost_is_named(size: int, data: st.DataObject) -> None:
    bundle = random.Random(size).randbytes(size)
    pieces = cut(bundle)
    lost = data.draw(st.sets(st.sampled_from(range(len(pieces))), min_size=1))
    assembly = Assembly()
    for number, piece in enumerate(pieces):
        if number not in lost:
            assembly.take(piece)
    if len(lost) < len(pieces):
        assert assembly.missing == tuple(sorted(lost))
    assert fault(assembly, result(bundle)) == "missing"
    for number in lost:
        assembly.take(pieces[number])
    assert assembly.bundle(result(bundle)) == bundle


@given(st.binary(max_size=2000))
def test_whatever_comes_is_no_bundle(payload: bytes) -> None:
    assembly = Assembly()
    assert assembly.take(payload) is False
    assert fault(assembly, result(BUNDLE)) == "unreadable"


def taken(pieces: list[bytes]) -> Assembly:
    assembly = Assembly()
    for piece in pieces:
        assembly.take(piece)
    return assembly


def test_pieces_that_contradict_each_other_are_no_bundle() -> None:
    pieces = cut(BUNDLE)
    assert fault(taken([*pieces, chunk(b"another", 1, 4)]), result(BUNDLE)) == "conflicting"
    assert fault(taken([*pieces, chunk(b"", 4, 5)]), result(BUNDLE)) == "conflicting"
    assert fault(taken(pieces), result(BUNDLE, chunks=5)) == "conflicting"


def test_what_does_not_match_the_result_is_no_bundle() -> None:
    pieces = cut(BUNDLE)
    assert fault(taken(pieces), result(BUNDLE, sha256="0" * 64)) == "wrong-hash"
    assert fault(taken(pieces), result(BUNDLE, bytes=len(BUNDLE) - 1)) == "wrong-size"
    bad_results: list[Any] = [None, {}, [], {"message": "it failed"}, result(BUNDLE, chunks=0), result(BUNDLE, format="tar")]
    for bad in bad_results:
        assert fault(taken(pieces), bad) == "bad-result"
    assert fault(taken(pieces), result(BUNDLE, bytes=MAX_BYTES + 1)) == "bad-result"


def test_nothing_grows_beyond_its_limit() -> None:
    assert fault(taken([chunk(b"x", 0, MAX_CHUNKS + 1)]), result(BUNDLE)) == "too-large"
    assert fault(taken([chunk(bytes(CHUNK_BYTES + 1), 0, 4)]), result(BUNDLE)) == "too-large"
    assert fault(taken([chunk(bytes(3 * CHUNK_BYTES), 0, 4)]), result(BUNDLE)) == "unreadable"
    bomb = gzip.compress(bytes(MAX_UNPACKED_BYTES + 1), 9)
    with pytest.raises(NotWhole) as caught:
        unpacked(bomb)
    assert caught.value.fault == "too-large"


@pytest.mark.parametrize(
    "said", [{"n": 4, "of": 4, "data": ""}, {"n": -1, "of": 4, "data": ""}, {"n": 0, "of": 4, "data": "*"}, {"n": 0, "of": 4}, []]
)
def test_a_piece_that_is_none_is_said_to_be_none(said: Any) -> None:
    assert fault(taken([*cut(BUNDLE), json.dumps(said).encode()]), result(BUNDLE)) == "unreadable"


def test_a_bundle_is_a_gzip_of_one_object() -> None:
    whole = gzip.compress(b'{"a":1}')
    assert unpacked(whole) == {"a": 1}
    for broken in (b"", b"{}", whole[:-3], whole + b"x", whole + whole, gzip.compress(b"[1]"), gzip.compress(b"{")):
        with pytest.raises(NotWhole) as caught:
            unpacked(broken)
        assert caught.value.fault == "unreadable"


def test_a_piece_of_the_largest_size_is_a_chunk_of_the_contract() -> None:
    [first, *_] = cut(BUNDLE)
    assert json.loads(first) == {"n": 0, "of": 4, "data": base64.b64encode(BUNDLE[:CHUNK_BYTES]).decode()}
    assert len(first) < 11 * 1024
