"""Faults at times: a text file of lines `SECONDS ACTION`, with `#` comments."""

from collections.abc import Collection
from dataclasses import dataclass

from agent.contract.typed import Invalid, Problem


@dataclass(frozen=True)
class Step:
    at_s: float
    action: str


def parse(text: str, actions: Collection[str]) -> list[Step]:
    """The steps in order of time. Raises `Invalid` with every line that is wrong."""
    steps: list[Step] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"line {number}"
        if len(words) != 2:
            problems.append(Problem(where, f"write SECONDS ACTION, such as '30 paper-out' (here: {line.strip()!r})"))
            continue
        at_s = _seconds(words[0])
        if at_s is None:
            problems.append(Problem(where, f"write a number of seconds from the start (here: {words[0]!r})"))
        elif words[1] not in actions:
            problems.append(Problem(where, f"unknown action {words[1]!r}; `booth-agent demo --actions` lists them"))
        else:
            steps.append(Step(at_s, words[1]))
    if problems:
        raise Invalid(problems)
    return sorted(steps, key=lambda step: step.at_s)


def _seconds(word: str) -> float | None:
    try:
        at_s = float(word)
    except ValueError:
        return None
    return at_s if 0 <= at_s < 1e6 else None
