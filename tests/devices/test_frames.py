"""What frames show, from made-up pictures."""

import pytest

from agent.devices.frames import JUDGED, SKIPPED, WANTED, Film, packed_luma, planar_luma


def filmed(frames: list[bytes], width: int = 4, height: int = 2) -> dict[str, object]:
    film = Film()
    for frame in frames:
        film.add(frame, planar_luma(width, height, width))
    return film.figures()


def test_the_frames_before_the_exposure_settled_do_not_count() -> None:
    figures = filmed([bytes(8)] * SKIPPED + [bytes([100, 200] * 4)] * JUDGED)
    assert figures == {"frames": WANTED, "luma_mean": 150.0, "luma_deviation": 50.0, "distinct_frames": 1}


def test_a_single_differing_byte_makes_another_frame() -> None:
    last = bytes([7] * 7 + [8])
    assert filmed([bytes([7] * 8)] * (WANTED - 1) + [last])["distinct_frames"] == 2


def test_a_film_that_broke_off_says_only_how_many_came() -> None:
    figures = filmed([bytes(8)] * (WANTED - 1))
    assert figures == {"frames": WANTED - 1, "luma_mean": None, "luma_deviation": None, "distinct_frames": None}
    assert filmed([])["frames"] == 0


def test_a_compressed_frame_has_no_brightness_but_can_be_compared() -> None:
    film = Film()
    for number in range(WANTED):
        film.add(b"\xff\xd8" + bytes([number]), None)
    assert film.complete
    assert film.figures() == {"frames": WANTED, "luma_mean": None, "luma_deviation": None, "distinct_frames": JUDGED}


def test_a_frame_shorter_than_it_should_be_is_counted_as_far_as_it_goes() -> None:
    assert filmed([b"\x10"] * WANTED)["luma_mean"] == 16.0
    assert filmed([b""] * WANTED)["luma_mean"] is None


@pytest.mark.parametrize("width", [640, 641])
def test_stripes_are_not_taken_for_an_even_picture(width: int) -> None:
    """Large pictures are sampled; the sample must not fall on every other column only."""
    height = 480
    row = (b"\x00\xff" * width)[:width]
    film = Film()
    for _ in range(WANTED):
        film.add(row * height, planar_luma(width, height, width))
    figures = film.figures()
    assert figures["luma_mean"] == pytest.approx(127.5, abs=2)
    assert figures["luma_deviation"] == pytest.approx(127.5, abs=2)


def test_padding_and_colour_are_not_brightness() -> None:
    padded = bytes([1, 2, 99, 99]) + bytes([3, 4, 99, 99]) + b"\x80" * 4
    assert planar_luma(2, 2, 4)(padded) == bytes([1, 2, 3, 4])
    assert planar_luma(2, 2, 2)(bytes([1, 2, 3, 4, 128, 128])) == bytes([1, 2, 3, 4])
    yuyv = bytes([1, 128, 2, 128, 99, 99]) + bytes([3, 128, 4, 128, 99, 99])
    assert packed_luma(2, 2, 6, 0)(yuyv) == bytes([1, 2, 3, 4])
    uyvy = bytes([128, 1, 128, 2])
    assert packed_luma(2, 1, 4, 1)(uyvy) == bytes([1, 2])
