"""Every documented status bit, by the tables of the manuals: Epson TM-T88III pp. 318-324, TM-U220 p. 83.

The bytes stand here as the manuals print them, fixed bits included; nothing is computed from the code.
"""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.escpos.codec import (
    ENABLE_PUSH,
    STATUS_REQUESTS,
    Decoder,
    Garbage,
    Item,
    Push,
    Reply,
    Status,
    polled_status,
    pushed_status,
)

HEALTHY = Status(online=True, cover_open=False, paper="adequate", error=None)
# Fixed in every DLE EOT reply: bits 1 and 4 set, bits 0 and 7 clear.
QUIET = {1: 0x12, 2: 0x12, 3: 0x12, 4: 0x12}


def test_the_requests_are_those_of_the_manual() -> None:
    assert STATUS_REQUESTS == {1: b"\x10\x04\x01", 2: b"\x10\x04\x02", 3: b"\x10\x04\x03", 4: b"\x10\x04\x04"}
    assert ENABLE_PUSH == b"\x1d\x61\x0e"  # online/offline, error, roll; not the drawer, not the panel


@pytest.mark.parametrize(
    ("request_number", "reply", "expected"),
    [
        (1, 0x12, HEALTHY),
        (1, 0x16, HEALTHY),  # drawer kick-out connector, pin 3 high: nothing is wired there
        (1, 0x1A, replace(HEALTHY, online=False)),
        (1, 0x32, HEALTHY),  # waiting for online recovery; it says offline with a bit of its own
        (1, 0x52, replace(HEALTHY, feeding=True)),
        (2, 0x12, HEALTHY),
        (2, 0x16, replace(HEALTHY, cover_open=True)),
        (2, 0x1A, replace(HEALTHY, feeding=True)),
        (2, 0x32, replace(HEALTHY, paper="empty")),
        (2, 0x52, HEALTHY),  # an error: which one, the third reply says
        (3, 0x12, HEALTHY),
        (3, 0x16, replace(HEALTHY, error="recoverable")),
        (3, 0x1A, replace(HEALTHY, error="cutter")),
        (3, 0x32, replace(HEALTHY, error="unrecoverable")),
        (3, 0x52, replace(HEALTHY, error="auto-recoverable")),
        (4, 0x12, HEALTHY),
        (4, 0x1E, replace(HEALTHY, paper="low")),
        (4, 0x72, replace(HEALTHY, paper="empty")),
        (4, 0x7E, replace(HEALTHY, paper="empty")),
    ],
)
def test_every_bit_of_the_four_polled_replies(request_number: int, reply: int, expected: Status) -> None:
    assert Decoder().feed(bytes([reply])) == [Reply(reply)]
    assert polled_status(QUIET | {request_number: reply}) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("10 00 00 00", HEALTHY),
        ("14 00 00 00", HEALTHY),  # drawer
        ("18 00 00 00", replace(HEALTHY, online=False)),
        ("30 00 00 00", replace(HEALTHY, cover_open=True)),
        ("50 00 00 00", replace(HEALTHY, feeding=True)),
        ("10 01 00 00", HEALTHY),  # waiting for online recovery
        ("10 02 00 00", replace(HEALTHY, feeding=True)),
        ("10 04 00 00", replace(HEALTHY, error="recoverable")),
        ("10 08 00 00", replace(HEALTHY, error="cutter")),
        ("10 20 00 00", replace(HEALTHY, error="unrecoverable")),
        ("10 40 00 00", replace(HEALTHY, error="auto-recoverable")),
        ("10 00 01 00", replace(HEALTHY, paper="low")),
        ("10 00 02 00", replace(HEALTHY, paper="low")),
        ("10 00 03 00", replace(HEALTHY, paper="low")),
        ("10 00 04 00", replace(HEALTHY, paper="empty")),
        ("10 00 08 00", replace(HEALTHY, paper="empty")),
        ("10 00 0F 00", replace(HEALTHY, paper="empty")),
        ("10 00 00 6F", HEALTHY),  # the fourth byte is reserved: whatever stands in it
        ("38 00 0F 00", replace(HEALTHY, online=False, cover_open=True, paper="empty")),
    ],
)
def test_every_bit_of_the_pushed_frame(frame: str, expected: Status) -> None:
    assert Decoder().feed(bytes.fromhex(frame)) == [Push(expected)]


@pytest.mark.parametrize(
    ("second", "named"),
    [(0x6C, "unrecoverable"), (0x4C, "cutter"), (0x44, "auto-recoverable"), (0x04, "recoverable")],
)
def test_of_several_errors_the_one_is_named_that_needs_most_help(second: int, named: str) -> None:
    assert pushed_status(bytes([0x18, second, 0, 0])).error == named
    assert polled_status(QUIET | {3: 0x12 | second}).error == named


def test_a_reply_in_the_middle_of_a_frame_spoils_neither() -> None:
    assert Decoder().feed(bytes.fromhex("18 00 1A 0C 00")) == [
        Reply(0x1A),
        Push(replace(HEALTHY, online=False, paper="empty")),
    ]


def test_flow_control_in_the_middle_of_a_frame_is_passed_over() -> None:
    assert Decoder().feed(bytes.fromhex("10 00 13 11 03 00")) == [Push(replace(HEALTHY, paper="low"))]


def test_a_frame_may_come_in_single_bytes() -> None:
    decoder = Decoder()
    items = [item for byte in bytes.fromhex("30 00 00 00") for item in decoder.feed(bytes([byte]))]
    assert items == [Push(replace(HEALTHY, cover_open=True))]


def test_half_a_frame_is_garbage_once_the_next_one_starts() -> None:
    assert Decoder().feed(bytes.fromhex("18 00  10 00 03 00")) == [Garbage(2), Push(replace(HEALTHY, paper="low"))]


def test_the_end_of_a_frame_without_its_start_is_garbage_and_no_status() -> None:
    assert Decoder().feed(bytes.fromhex("00 0C 00")) == [Garbage(3)]


def test_garbage_stands_before_what_arrived_with_it_so_that_it_is_doubted() -> None:
    # A frame that only looks like one, with noise behind it.
    assert Decoder().feed(bytes.fromhex("18 20 0C 00 FF"))[0] == Garbage(1)


def frames() -> st.SearchStrategy[bytes]:
    """Every frame that a printer can send: fixed bits as in the manual, all others free."""

    def bits(fixed: int, free: int) -> st.SearchStrategy[int]:
        return st.integers(0, 255).map(lambda value: value & free | fixed)

    return st.tuples(bits(0x10, 0x6C), bits(0, 0x6F), bits(0, 0x6F), bits(0, 0x6F)).map(bytes)


@given(noise=st.binary(max_size=64), frame=frames(), cuts=st.lists(st.integers(0, 68), max_size=6))
def test_f80_any_noise_followed_by_a_whole_frame_gives_its_status(noise: bytes, frame: bytes, cuts: list[int]) -> None:
    decoder = Decoder()
    stream = noise + frame
    items: list[Item] = []
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        items += decoder.feed(stream[start:end])
    first, _, third, _ = frame
    pushes = [item for item in items if isinstance(item, Push)]
    assert pushes[-1].status == pushed_status(frame)
    # Said by the manual's masks, not by the code under test.
    assert pushes[-1].status.online is (first & 0x08 == 0)
    assert pushes[-1].status.cover_open is (first & 0x20 != 0)
    assert (pushes[-1].status.paper == "empty") is (third & 0x0C != 0)


@given(noise=st.binary(max_size=64), frame=frames(), reply=st.integers(0, 255).map(lambda b: b & 0x6C | 0x12))
def test_f80_any_noise_followed_by_a_reply_gives_that_reply_last(noise: bytes, frame: bytes, reply: int) -> None:
    for stream in (noise + bytes([reply]), noise + frame[:2] + bytes([reply]) + frame[2:]):
        replies = [item for item in Decoder().feed(stream) if isinstance(item, Reply)]
        assert replies[-1] == Reply(reply)


@given(st.binary(max_size=256))
def test_every_byte_is_accounted_for_and_none_raises(data: bytes) -> None:
    items = Decoder().feed(data)
    counted = sum(item.count if isinstance(item, Garbage) else 4 if isinstance(item, Push) else 1 for item in items) + sum(
        byte in (0x11, 0x13) for byte in data
    )
    assert len(data) - 3 <= counted <= len(data)  # up to three bytes wait for the rest of their frame
