"""The catalogue of the forms that a booth prints without the Internet, and how the folder around it keeps to it.

`catalogue.json` lies beside the files that it names. Whoever prints from there reads the same keys: docs/forms.md.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from agent.contract.decode import BadJson, decode_object
from agent.contract.typed import Check, Invalid, Length, Pattern, Problem, Range, build
from agent.contract.update import Sha256

CATALOGUE: Final = "catalogue.json"
MAX_CATALOGUE_BYTES: Final = 256 * 1024
MAX_FORMS: Final = 200
MAX_FORM_BYTES: Final = 64 * 1024 * 1024

_CHUNK_BYTES: Final = 64 * 1024
_BEGINS: Final = b"%PDF-"  # ISO 32000-1, 7.5.2


def _day_problem(text: str) -> str | None:
    try:
        known = date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    return None if known else f"write a day that the calendar has, such as 2026-11-01 (here: {text[:40]!r})"


def _text_problem(text: str) -> str | None:
    if text.strip() == text != "" and text.isprintable():
        return None
    return "write one line of text, without spaces around it"


def _forms_problem(forms: tuple[Any, ...]) -> str | None:
    return None if forms else "write at least one form: an empty cache prints nothing"


Day = Annotated[str, Check(_day_problem, "a day, such as 2026-11-01")]
Cerfa = Annotated[str, Pattern(r"[1-9][0-9]{4}(?:\*[0-9]{2})?", 'a cerfa number, such as "15776*02"')]
FileName = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.pdf", "a plain file name, such as 15776-02.pdf")]
Title = Annotated[str, Length(160), Check(_text_problem, "a line of text in French")]
Warning_ = Annotated[str, Length(400), Check(_text_problem, "a line of text in French")]


@dataclass(frozen=True)
class Form:
    """One form. `version`: the administration's own. `verified_on`: when somebody last saw that `source` still has this one.
    `not_after`: the last day on which it is accepted. `copies`: how many a citizen needs. `warning`: what she is told first."""

    cerfa: Cerfa
    title: Title
    file: FileName
    version: Annotated[str, Pattern(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}", "the form's version, such as 02 or 2025-03")]
    sha256: Sha256
    size_bytes: Annotated[int, Range(1, MAX_FORM_BYTES)]
    verified_on: Day
    not_after: Day | None
    source: Annotated[
        str, Pattern(r"https://[a-z0-9.-]{1,255}(?:/[!-~]{0,1500})?", "the https:// address that it was taken from")
    ]
    withdrawn: bool
    copies: Annotated[int, Range(1, 9)]
    warning: Warning_ | None

    def expired(self, today: date) -> bool:
        return self.not_after is not None and date.fromisoformat(self.not_after) < today


@dataclass(frozen=True)
class Catalogue:
    """`version` is the operator's own, such as the day on which it was made."""

    schema: Literal[1]
    version: Annotated[str, Pattern(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}", "the catalogue's version, such as 2026-11-01")]
    forms: Annotated[tuple[Form, ...], Length(MAX_FORMS), Check(_forms_problem, "at least one form")]


def read_catalogue(data: bytes, unknown: Literal["refuse", "ignore"] = "refuse") -> Catalogue:
    """Read `catalogue.json`. Raises `Invalid` with every problem; what is no JSON object at all is one."""
    try:
        value = decode_object(data, MAX_CATALOGUE_BYTES)
    except BadJson as error:
        raise Invalid([Problem("", str(error))]) from error
    problems: list[Problem] = []
    try:
        catalogue = build(Catalogue, value, unknown=unknown)
    except Invalid as error:
        problems += error.problems
    problems += _twice(value.get("forms"))
    if problems:
        raise Invalid(problems)
    return catalogue


def catalogue_in(folder: Path, unknown: Literal["refuse", "ignore"] = "refuse") -> Catalogue:
    """The catalogue of a folder. Raises `Invalid`, also where it is a link or no file at all, and OSError."""
    descriptor = _opened(folder / CATALOGUE)
    if descriptor is None:
        raise Invalid([Problem("", "it is no regular file")])
    with open(descriptor, "rb") as stream:
        return read_catalogue(stream.read(MAX_CATALOGUE_BYTES + 1), unknown)


# --- the files ---

# What a form's file can be instead of whole.
Flaw = Literal["absent", "no-file", "wrong-size", "wrong-content", "no-pdf", "unreadable"]

_IN_WORDS: Final[dict[Flaw, str]] = {
    "absent": "it is missing",
    "no-file": "it is no regular file",
    "wrong-size": "its size is not what the catalogue says",
    "wrong-content": "its SHA-256 is not what the catalogue says",
    "no-pdf": "it does not begin as a PDF does",
    "unreadable": "it cannot be read",
}


def flaw(folder: Path, form: Form) -> Flaw | None:
    """What is wrong with a form's file; None where it is whole. It is read piece by piece, and no link is followed."""
    try:
        descriptor = _opened(folder / form.file)
        if descriptor is None:
            return "no-file"
        with open(descriptor, "rb", buffering=0) as stream:
            if os.fstat(descriptor).st_size != form.size_bytes:
                return "wrong-size"
            begins, digest = b"", hashlib.sha256()
            while chunk := stream.read(_CHUNK_BYTES):
                begins = begins or chunk[: len(_BEGINS)]
                digest.update(chunk)
    except FileNotFoundError:
        return "absent"
    except OSError:
        return "unreadable"
    if digest.hexdigest() != form.sha256:
        return "wrong-content"
    return None if begins == _BEGINS else "no-pdf"


def folder_problems(folder: Path, catalogue: Catalogue, besides: Iterable[str] = ()) -> list[Problem]:
    """What is missing in a folder, not as its catalogue says or left over, but for `besides`; a withdrawn form may lack its file.
    Raises OSError."""
    problems = []
    for form in catalogue.forms:
        found = flaw(folder, form)
        if found is not None and not (found == "absent" and form.withdrawn):
            problems.append(Problem(form.file, _IN_WORDS[found]))
    named = {CATALOGUE, *besides, *(form.file for form in catalogue.forms)}
    left_over = sorted({entry.name for entry in folder.iterdir()} - named)
    return problems + [Problem(name, "the catalogue does not name it") for name in left_over]


def _opened(file: Path) -> int | None:
    """A descriptor of a regular file, None for anything else. Raises OSError."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _twice(forms: object) -> Iterator[Problem]:
    """Found in the plain data, so that it is said beside whatever else is wrong."""
    if not isinstance(forms, list):
        return
    for key in ("cerfa", "file"):
        yield from _repeated(key, (form.get(key) if isinstance(form, dict) else None for form in forms[:MAX_FORMS]))


def _repeated(key: str, values: Iterable[object]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if isinstance(value, str) and first.setdefault(value, index) != index:
            yield Problem(f"forms[{index}].{key}", f"forms[{first[value]}] has the same")
