"""One document of ours at a print queue: sent, followed to its end, cancelled. Nobody else's is asked about.

What became of a job is asked of the job, and where the scheduler has forgotten it (`PreserveJobHistory No`), of a
subscription to the queue's ended jobs (RFC 3995, 3996) that is made before it and lives as long as it does. One to the job alone
would tell nothing: cupsd deletes it together with the job. So should somebody else's job end meanwhile, the scheduler sends an
event of that too; it is skipped by its number, and nothing else of it is looked at or kept.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.devices import ipp_codec
from agent.devices.ipp import Conversation
from agent.devices.ipp_codec import Attribute, Value
from agent.devices.ipp_http import QueueNotFound, Refused

_PRINT_JOB: Final = 0x0002
_CANCEL_JOB: Final = 0x0008
_GET_JOB_ATTRIBUTES: Final = 0x0009
_GET_JOBS: Final = 0x000A
_GET_PRINTER_ATTRIBUTES: Final = 0x000B
_CREATE_PRINTER_SUBSCRIPTIONS: Final = 0x0016
_CANCEL_SUBSCRIPTION: Final = 0x001B
_GET_NOTIFICATIONS: Final = 0x001C

_YES: Final = "\1"  # a boolean's octet
_MOST: Final = 50

# job-state (RFC 8011 section 5.3.7), in words. Below 7 it has not ended.
STATES: Final[Mapping[int, str]] = {
    3: "pending", 4: "held", 5: "processing", 6: "stopped", 7: "canceled", 8: "aborted", 9: "completed",
}  # fmt: skip
COMPLETED: Final = 9


@dataclass(frozen=True)
class Submitted:
    """A job of ours; `subscription` is None at a server that has no events."""

    number: int
    subscription: int | None


@dataclass(frozen=True)
class Outcome:
    """How far a job is. `sheets`: how many came out, as the server counts them."""

    state: int
    sheets: int

    @property
    def ended(self) -> bool:
        return self.state >= 7


async def formats(queue: Conversation) -> list[str]:
    """The document formats that a queue takes, as MIME types."""
    answer = await queue.ask(_GET_PRINTER_ATTRIBUTES, ("document-format-supported",), ())
    found = [value for group in answer.of(ipp_codec.PRINTER_GROUP) for value in group.get("document-format-supported", ())]
    return [value for value in found if isinstance(value, str)]


async def submit(queue: Conversation, document: bytes, format_: str, name: str, gone_after_s: int) -> Submitted:
    """Print it. A scheduler that can cancels it by itself once it was being printed for `gone_after_s`. Raises IppFailed's kinds;
    after NoAnswer and SchedulerAway it may have been taken all the same: see `ours`."""
    subscription = await _subscribe(queue, 2 * gone_after_s)
    named: tuple[Attribute, ...] = ((ipp_codec.NAME, "job-name", (name,)), (ipp_codec.MIME_TYPE, "document-format", (format_,)))
    template: tuple[Attribute, ...] = ((ipp_codec.INTEGER, "job-cancel-after", (gone_after_s,)),)
    answer = await queue.ask(_PRINT_JOB, (), named, document, ((ipp_codec.JOB_GROUP, template),))
    number = _first(answer.of(ipp_codec.JOB_GROUP), "job-id")
    if number is None:
        raise Refused("a job without a number")
    return Submitted(number, subscription)


async def _subscribe(queue: Conversation, lease_s: int) -> int | None:
    events: tuple[Attribute, ...] = (
        (ipp_codec.KEYWORD, "notify-pull-method", ("ippget",)),
        (ipp_codec.KEYWORD, "notify-events", ("job-completed",)),
        (ipp_codec.INTEGER, "notify-lease-duration", (lease_s,)),
    )
    try:
        answer = await queue.ask(_CREATE_PRINTER_SUBSCRIPTIONS, (), (), groups=((ipp_codec.SUBSCRIPTION_GROUP, events),))
    except Refused:
        return None
    return _first(answer.of(ipp_codec.SUBSCRIPTION_GROUP), "notify-subscription-id")


async def outcome(queue: Conversation, job: Submitted) -> Outcome | None:
    """How far it is; None where the scheduler has forgotten it without a word."""
    wanted = ("job-state", "job-media-sheets-completed", "job-impressions-completed")
    try:
        answer = await queue.ask(_GET_JOB_ATTRIBUTES, wanted, ((ipp_codec.INTEGER, "job-id", (job.number,)),))
        found = _outcome(answer.of(ipp_codec.JOB_GROUP))
    except QueueNotFound:  # the job, that is
        found = None
    if found is not None or job.subscription is None:
        return found
    asked: tuple[Attribute, ...] = (
        (ipp_codec.INTEGER, "notify-subscription-ids", (job.subscription,)),
        (ipp_codec.INTEGER, "notify-sequence-numbers", (1,)),
    )
    try:
        answer = await queue.ask(_GET_NOTIFICATIONS, (), asked)
    except QueueNotFound:  # the subscription
        return None
    return _outcome([event for event in answer.of(ipp_codec.EVENT_GROUP) if _first([event], "notify-job-id") == job.number])


async def forget(queue: Conversation, job: Submitted) -> None:
    """End its subscription before its lease does."""
    if job.subscription is not None:
        with contextlib.suppress(QueueNotFound, Refused):
            await queue.ask(_CANCEL_SUBSCRIPTION, (), ((ipp_codec.INTEGER, "notify-subscription-id", (job.subscription,)),))


async def ours(queue: Conversation) -> list[int]:
    """The numbers of the jobs that we sent, and that have not ended."""
    asked: tuple[Attribute, ...] = (
        (ipp_codec.INTEGER, "limit", (_MOST,)),
        (ipp_codec.KEYWORD, "which-jobs", ("not-completed",)),
        (ipp_codec.BOOLEAN, "my-jobs", (_YES,)),
    )
    answer = await queue.ask(_GET_JOBS, ("job-id",), asked)
    return [number for group in answer.of(ipp_codec.JOB_GROUP) if (number := _first([group], "job-id")) is not None]


async def cancel(queue: Conversation, number: int) -> None:
    """One that has ended meanwhile needs none. Raises Refused where the scheduler will not."""
    with contextlib.suppress(QueueNotFound):
        await queue.ask(_CANCEL_JOB, (), ((ipp_codec.INTEGER, "job-id", (number,)),))


def _outcome(groups: list[dict[str, list[Value]]]) -> Outcome | None:
    state = _first(groups, "job-state")
    if state is None:
        return None
    counts = (_first(groups, name) or 0 for name in ("job-media-sheets-completed", "job-impressions-completed"))
    return Outcome(state, max(counts))


def _first(groups: list[dict[str, list[Value]]], name: str) -> int | None:
    values = (value for group in groups for value in group.get(name, ()))
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
