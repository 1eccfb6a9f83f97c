"""What became of a command, as `boothctl` prints it for a person."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.boothctl.pages import columns
from agent.contract.command import CommandStatus
from agent.contract.words import printable

_VALUE: Final = 200
_PASSED: Final = {True: "passed", False: "FAILED", None: "left alone"}  # a citizen uses it


def state_line(status: CommandStatus) -> str:
    """A state that was reached, in a few words."""
    step = f", {status.step}" if status.step else ""
    return f"{status.verb}: {status.state}{step}"


def ended_line(booth: str, status: CommandStatus) -> str:
    """How it ended, where it did not succeed: with the contract's word, and what the booth says of it."""
    reason = f" ({status.reason})" if status.reason else ""
    message = (status.result or {}).get("message")
    if message and status.state == "refused" and "wait_s" in str(message):
        message = f"{message} (--wait-s)"
    return f"{booth}: {status.verb} {status.state}{reason}{f': {message}' if message else ''}"


def left_alone(result: Mapping[str, Any] | None) -> list[str]:
    """The names that a self-test did not test."""
    names = (result or {}).get("left_alone")
    return list(map(str, names)) if isinstance(names, list) else []


def result_page(result: Mapping[str, Any] | None) -> str:
    """The result: a table of peripherals, and a line for each other value. Its message stands elsewhere."""
    values = {key: value for key, value in (result or {}).items() if key != "message" and (key, value) != ("left_alone", [])}
    peripherals = values.pop("peripherals", None)
    lines = list(_lines(values))
    if isinstance(peripherals, dict):
        lines += ["", _peripherals(peripherals)] if lines else [_peripherals(peripherals)]
    return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield f"{printable(key)}:"
            for name, item in value.items():
                yield f"  {printable(str(name))}: {_short(item)}"
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield f"{printable(key)}:"
            for item in value:
                yield "  " + ", ".join(f"{printable(str(name))} {_short(one)}" for name, one in item.items())
        else:
            yield f"{printable(key)}: {_short(value)}"


def _peripherals(found: Mapping[str, Any]) -> str:
    rows = [("PERIPHERAL", "TEST", "STATUS", "FINDINGS", "CHECKED")]
    for name, said in sorted(found.items()):
        one = said if isinstance(said, dict) else {}
        passed = one.get("passed")
        rows.append(
            (
                printable(str(name)),
                _PASSED[passed] if isinstance(passed, bool | None) else _short(passed),
                _short(one.get("status")),
                _short(one.get("codes")),
                _short(one.get("checked_at")),
            )
        )
    return columns(rows)


def _short(value: Any) -> str:
    match value:
        case None | [] | {}:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list():
            return printable(", ".join(map(_short, value)), _VALUE)
        case dict():
            return printable(", ".join(f"{key} {_short(item)}" for key, item in value.items()), _VALUE)
        case _:
            return printable(str(value), _VALUE)
