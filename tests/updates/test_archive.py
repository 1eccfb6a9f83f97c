"""The file that carries an update: what is packed is unpacked, the same files give the same bytes, and nothing else goes in."""

import contextlib
import io
import os
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.updates.archive import pack, unpack
from agent.updates.kind import NotGood

FILES = {"manifest.json": b"{}", "wheels/a-1.0-py3-none-any.whl": b"a" * 20_000, "wheels/deep/er/x": b"", "Z_1+2": b"z"}


@pytest.fixture(autouse=True)
def no_large_file() -> Iterator[None]:
    """Where a hole is unpacked after all, this test fails, and the disk of whoever runs it is not full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def folder(place: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def there(place: Path) -> dict[str, bytes]:
    return {file.relative_to(place).as_posix(): file.read_bytes() for file in place.rglob("*") if file.is_file()}


def refused(archive: Path, place: Path) -> str:
    place.mkdir()
    with pytest.raises(NotGood) as caught:
        unpack(archive, place)
    assert caught.value.reason == "bad-archive"
    return str(caught.value)


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    pack(folder(tmp_path / "from"), tmp_path / "x.tar", 1_700_000_000)
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "x.tar", tmp_path / "to")
    assert there(tmp_path / "to") == FILES


def test_the_same_files_give_the_same_bytes_whoever_has_them_and_since_when(tmp_path: Path) -> None:
    one = folder(tmp_path / "one")
    other = folder(tmp_path / "other", dict(reversed(FILES.items())))
    for file in other.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o700)
    pack(one, tmp_path / "one.tar", 7)
    pack(other, tmp_path / "other.tar", 7)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()


@pytest.mark.parametrize("name", [".hidden", "with blank", "a/b/c/d/e", "é", "a:b", "x" * 152])
def test_what_no_booth_would_take_is_not_packed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name that a booth takes"):
        pack(folder(tmp_path / "from", {name: b""}), tmp_path / "x.tar", 0)


# --- what is refused ---


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **over: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in over.items():
        setattr(info, key, value)
    return info, data


def made(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - as tarfile has it
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=format) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def compressed(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        tar.addfile(*[member("a")[0]])
    return file.getvalue()


def sparse_gnu() -> bytes:
    """A file of one gibibyte that takes one block here."""
    info, _ = member("holes", tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"  # its one part: at 0, of no bytes
    header[483:495] = b"10000000000\0"  # 2**30, in octal
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(10_240 - 512)


def sparse_pax(**words: str) -> bytes:
    headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**30), "GNU.sparse.map": "0,0"}
    return made(member("holes", pax_headers=headers | {key.replace("_", "."): value for key, value in words.items()}))


def sized(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member that says that it has so many bytes, as GNU tar writes large numbers."""
    info, _ = member("a", kind)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(10_240 - 512)


WHOLE = made(member("a", data=b"a" * 700), member("b/c", data=b"b"))
BAD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no tar": lambda: b"PK\3\4" * 1000,
    "gzip": lambda: compressed("w:gz"),
    "bzip2": lambda: compressed("w:bz2"),
    "xz": lambda: compressed("w:xz"),
    "a link": lambda: made(member("current", tarfile.SYMTYPE, linkname="/etc")),
    "a link, and a file through it": lambda: made(member("x", tarfile.SYMTYPE, linkname="/tmp"), member("x/y", data=b"y")),
    "a hard link": lambda: made(member("a"), member("b", tarfile.LNKTYPE, linkname="a")),
    "a folder": lambda: made(member("wheels", tarfile.DIRTYPE)),
    "a device": lambda: made(member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "a disk": lambda: made(member("sda", tarfile.BLKTYPE, devmajor=8, devminor=0)),
    "a FIFO": lambda: made(member("pipe", tarfile.FIFOTYPE)),
    "absolute": lambda: made(member("/etc/passwd")),
    "upwards": lambda: made(member("../x")),
    "upwards within": lambda: made(member("a/../../x")),
    "here": lambda: made(member("./x")),
    "hidden": lambda: made(member(".x")),
    "a blank": lambda: made(member("a b")),
    "a line's end": lambda: made(member("a\nb")),
    "an escape": lambda: made(member("\33[2J")),
    "a backslash": lambda: made(member("a\\b")),
    "no name": lambda: made(member("")),
    "a long name": lambda: made(member("x" * 152)),
    "a deep one": lambda: made(member("a/b/c/d/e")),
    "a name in bad UTF-8": lambda: made(member("caf\udce9"), format=tarfile.GNU_FORMAT),
    "two of one name": lambda: made(member("a", data=b"1"), member("a", data=b"2")),
    "a file below a file": lambda: made(member("a", data=b"1"), member("a/b", data=b"2")),
    "a file further below a file": lambda: made(member("a", data=b"1"), member("a/b/c", data=b"2")),
    "a file in a folder's place": lambda: made(member("a/b", data=b"1"), member("a", data=b"2")),
    "too many": lambda: made(*(member(f"f{number}") for number in range(1001))),
    "holes": sparse_gnu,
    "holes, in pax": sparse_pax,
    "holes that are no numbers": lambda: sparse_pax(GNU_sparse_map="0,x"),
    "a size that is no number": lambda: sparse_pax(GNU_sparse_size="many"),
    "headers of headers": lambda: made(member("x", tarfile.GNUTYPE_LONGNAME, data=b"y"))[:1024] * 1500 + WHOLE,
    "a size below nothing": lambda: sized(-(2**40)),
    "a size beyond everything": lambda: sized(2**80),
    "a long name beyond all memory": lambda: sized(2**40, tarfile.GNUTYPE_LONGNAME),
    "a pax header beyond all memory": lambda: sized(2**40, tarfile.XHDTYPE),
    "a pax header that takes hours": lambda: made(member("a", pax_headers={"comment": "9" * 2**20})),
    "holes, cut off": lambda: sparse_gnu()[:482] + b"\1" + sparse_gnu()[483:512],
    "something behind it": lambda: WHOLE + b"x",
    "a second archive behind it": lambda: WHOLE + WHOLE,
    "a damaged second member": lambda: WHOLE.replace(b"b/c\0", b"b/d\0"),
    "no end": lambda: WHOLE[: WHOLE.rindex(b"b") + 512],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_none_of_these_is_unpacked_and_nothing_lands_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tar").write_bytes(BAD[name]())
    assert refused(tmp_path / "x.tar", tmp_path / "to")
    assert {file.name for file in tmp_path.iterdir()} == {"x.tar", "to"}
    for file in (tmp_path / "to").rglob("*"):
        assert not file.is_symlink()
        assert file.is_dir() or file.stat().st_size < 1000
        assert file.stat().st_nlink == 1 or file.is_dir()


def test_a_thousand_files_are_not_too_many(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(made(*(member(f"f{number}") for number in range(1000))))
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "x.tar", tmp_path / "to")
    assert len(there(tmp_path / "to")) == 1000


def test_an_archive_that_ends_anywhere_too_early_is_refused(tmp_path: Path) -> None:
    """Its hash says so as well; but whoever signs one must not sign half of it unseen."""
    end = WHOLE.rindex(b"b") + 512  # of the last file's block
    for length in sorted({*range(0, end + 1024, 100), *range(0, end + 1024, 512), end, end + 512, end + 1023}):
        if length >= end // 512 * 512 + 1024:
            continue
        (tmp_path / "x.tar").write_bytes(WHOLE[:length])
        refused(tmp_path / "x.tar", tmp_path / str(length))


@settings(max_examples=150)
@given(st.data())
def test_whatever_is_changed_it_is_refused_or_lies_below(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Never another error: it would be tried again without end."""
    place = tmp_path_factory.mktemp("archive")
    changed = bytearray(data.draw(st.sampled_from([WHOLE, sparse_gnu(), sparse_pax()])))
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, min(len(changed), 4096) - 1))] = data.draw(st.integers(0, 255))
    (place / "x.tar").write_bytes(changed)
    (place / "to").mkdir()
    with contextlib.suppress(NotGood):
        unpack(place / "x.tar", place / "to")
    assert {file.name for file in place.iterdir()} == {"x.tar", "to"}
    assert sum(len(inside) for inside in there(place / "to").values()) <= len(changed)
    shutil.rmtree(place)
