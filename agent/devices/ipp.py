"""A print queue's own word on itself: IPP over HTTP, as cupsd and network printers speak it (RFC 8010, 8011).

Everything is socket I/O on the running loop under one deadline, so a server that is stopped, or sends a byte a second,
costs nobody else anything, and a question can be cancelled at any point. What is asked is named attribute by attribute:
never a job's name, owner or document, and the only user ever named is a constant.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agent.devices import ipp_codec
from agent.devices.ipp_codec import Malformed, Response, Value
from agent.devices.ipp_http import Connection, NoAnswer, QueueNotFound, Refused, Resolve

_USER: Final = "booth-agent"

_PRINT_JOB: Final = 0x0002
_GET_JOBS: Final = 0x000A
_GET_PRINTER_ATTRIBUTES: Final = 0x000B
_NOT_FOUND: Final = 0x0406

_PRINTER_ATTRIBUTES: Final = (
    "printer-state", "printer-state-reasons", "printer-state-change-time", "printer-up-time", "printer-is-accepting-jobs",
    "queued-job-count", "marker-names", "marker-types", "marker-levels", "device-uri", "printer-error-policy",
    "printer-make-and-model", "printer-state-message",
)  # fmt: skip
_JOB_ATTRIBUTES: Final = (
    "job-id", "job-state", "job-media-sheets-completed", "job-impressions-completed", "time-at-creation",
    "time-at-processing", "time-at-completed",
)  # fmt: skip


@dataclass(frozen=True)
class QueueAddress:
    """`ipp://host[:port]/printers/NAME`, read."""

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "QueueAddress":
        """Raises ValueError with what to write instead."""
        problem = "write ipp://HOST[:PORT]/printers/NAME, such as ipp://127.0.0.1:631/printers/forms"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(problem) from error
        if parts.scheme != "ipp" or not host or port == 0 or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(problem)
        if not re.fullmatch(r"(/[A-Za-z0-9._~%+-]+)+", parts.path):
            raise ValueError(problem)
        return cls(host, port or 631, parts.path)

    @property
    def uri(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ipp://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Supply:
    """`level_pct` is None where the printer gives no percentage (-1 unavailable, -2 unknown, -3 some left)."""

    name: str
    type: str
    level_pct: int | None


@dataclass(frozen=True)
class Job:
    """A job as far as it may be known: `state` 5 is processing, 6 stopped, 9 completed (RFC 8011 section 5.3.7).

    Times are the server's clock, in seconds.
    """

    id: int
    state: int
    sheets: int
    impressions: int
    processing_at_s: int | None
    completed_at_s: int | None


@dataclass(frozen=True)
class Queue:
    """`state` 3 is idle, 4 processing, 5 stopped (section 5.4.11). `now_s` and `changed_at_s` are the server's clock."""

    state: int | None
    reasons: tuple[str, ...]
    accepting: bool | None
    queued_jobs: int | None
    changed_at_s: int | None
    now_s: int | None
    supplies: tuple[Supply, ...]
    device_uri: str | None
    error_policy: str | None
    make_and_model: str | None
    message: str | None = None  # free text, of whoever spoke last: to be compared, not to be told


@contextlib.asynccontextmanager
async def converse(address: QueueAddress, resolve: Resolve, seconds: float) -> AsyncIterator["Conversation"]:
    """A connection for some questions; `seconds` bound the whole of it, from the look-up of the name to the last answer.

    Raises NoAnswer, SchedulerAway.
    """
    try:
        async with asyncio.timeout(seconds):
            connection = await Connection.open(address.host, address.port, resolve, seconds)
            try:
                yield Conversation(address, connection)
            finally:
                connection.close()
    except TimeoutError as error:
        raise NoAnswer(f"no answer in {seconds:g} s") from error


class Conversation:
    """The questions. Each raises SchedulerAway, QueueNotFound or Refused."""

    def __init__(self, address: QueueAddress, connection: Connection) -> None:
        self._address = address
        self._connection = connection

    async def queue(self) -> Queue:
        """What the queue says of itself."""
        answer = await self.ask(_GET_PRINTER_ATTRIBUTES, _PRINTER_ATTRIBUTES, ())
        printers = answer.of(ipp_codec.PRINTER_GROUP)
        if not printers:
            raise Refused("an answer without a printer")
        return _queue(printers[0])

    async def jobs(self) -> list[Job]:
        """Those that are not done, at most 50."""
        return await self._jobs("not-completed", 50)

    async def done_jobs(self, limit: int = 5) -> list[Job]:
        """The newest that ended in whatever way; empty on a cupsd with `PreserveJobHistory No`."""
        return await self._jobs("completed", limit)

    async def print_raw(self, document: bytes, name: str) -> int | None:
        """Hand bytes to the printer as they are; the number of the job, where the scheduler tells it."""
        named: tuple[ipp_codec.Attribute, ...] = (
            (ipp_codec.NAME, "job-name", (name,)),
            (ipp_codec.MIME_TYPE, "document-format", ("application/vnd.cups-raw",)),
        )
        answer = await self.ask(_PRINT_JOB, (), named, document)
        return next((_number(group, "job-id") for group in answer.of(ipp_codec.JOB_GROUP)), None)

    async def _jobs(self, which: str, limit: int) -> list[Job]:
        asked: tuple[ipp_codec.Attribute, ...] = (
            (ipp_codec.INTEGER, "limit", (limit,)),
            (ipp_codec.KEYWORD, "which-jobs", (which,)),
        )
        answer = await self.ask(_GET_JOBS, _JOB_ATTRIBUTES, asked)
        return [job for group in answer.of(ipp_codec.JOB_GROUP) if (job := _job(group)) is not None]

    async def ask(
        self,
        operation: int,
        wanted: tuple[str, ...],
        more: Iterable[ipp_codec.Attribute],
        document: bytes = b"",
        groups: Iterable[tuple[int, Iterable[ipp_codec.Attribute]]] = (),
    ) -> Response:
        """Any question about this queue: `wanted` are the attributes of the answer, `more` and `groups` those of the request."""
        body = ipp_codec.request(
            operation,
            (
                (ipp_codec.CHARSET, "attributes-charset", ("utf-8",)),
                (ipp_codec.LANGUAGE, "attributes-natural-language", ("en",)),
                (ipp_codec.URI, "printer-uri", (self._address.uri,)),
                (ipp_codec.NAME, "requesting-user-name", (_USER,)),
                *more,
                (ipp_codec.KEYWORD, "requested-attributes", wanted),
            ),
            *groups,
        )
        try:
            answer = ipp_codec.response(await self._connection.post(self._address.path, body + document, _USER))
        except Malformed as error:
            raise Refused(f"no IPP answer: {error}") from error
        if answer.status == _NOT_FOUND:
            raise QueueNotFound("no queue of that name")
        if answer.status >= 0x100:
            raise Refused(f"IPP status 0x{answer.status:04x}")
        return answer


def _queue(found: Mapping[str, list[Value]]) -> Queue:
    names, types, levels = (found.get(f"marker-{what}", []) for what in ("names", "types", "levels"))
    supplies = tuple(
        Supply(_nth(names, index), _nth(types, index), level if 0 <= level <= 100 else None)
        for index, level in enumerate(levels)
        if isinstance(level, int)
    )
    accepting = next(iter(found.get("printer-is-accepting-jobs", ())), None)
    return Queue(
        state=_number(found, "printer-state"),
        reasons=tuple(reason for reason in found.get("printer-state-reasons", ()) if isinstance(reason, str)),
        accepting=accepting if isinstance(accepting, bool) else None,
        queued_jobs=_number(found, "queued-job-count"),
        changed_at_s=_number(found, "printer-state-change-time"),
        now_s=_number(found, "printer-up-time"),
        supplies=supplies,
        device_uri=_text(found, "device-uri"),
        error_policy=_text(found, "printer-error-policy"),
        make_and_model=_text(found, "printer-make-and-model"),
        message=_text(found, "printer-state-message"),
    )


def _job(found: Mapping[str, list[Value]]) -> Job | None:
    number, state = _number(found, "job-id"), _number(found, "job-state")
    if number is None or state is None:
        return None
    return Job(
        number,
        state,
        _number(found, "job-media-sheets-completed") or 0,
        _number(found, "job-impressions-completed") or 0,
        _number(found, "time-at-processing"),
        _number(found, "time-at-completed"),
    )


def _number(found: Mapping[str, list[Value]], name: str) -> int | None:
    value = next(iter(found.get(name, ())), None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(found: Mapping[str, list[Value]], name: str) -> str | None:
    value = next(iter(found.get(name, ())), None)
    return value if isinstance(value, str) else None


def _nth(values: list[Value], index: int) -> str:
    value = values[index] if index < len(values) else None
    return value if isinstance(value, str) else ""
