"""A script of faults: read as it stands, or refused with every line that is wrong."""

import pytest

from agent.contract.typed import Invalid
from agent.simulator.script import Step, parse

ACTIONS = ("paper-out", "paper-in")


def test_lines_of_seconds_and_action_are_steps() -> None:
    assert parse("1 paper-out\n2.5 paper-in\n", ACTIONS) == [Step(1.0, "paper-out"), Step(2.5, "paper-in")]


def test_comments_blank_lines_and_spaces_are_nothing() -> None:
    text = "# a morning\n\n   \t\n  1\tpaper-out   # the roll ends\r\n#2 paper-in\n"
    assert parse(text, ACTIONS) == [Step(1.0, "paper-out")]
    assert parse("", ACTIONS) == []


def test_steps_are_played_in_the_order_of_time_and_of_lines_where_times_are_equal() -> None:
    steps = parse("3 paper-in\n1 paper-out\n3 paper-out\n0 paper-in", ACTIONS)
    assert [(step.at_s, step.action) for step in steps] == [
        (0, "paper-in"), (1, "paper-out"), (3, "paper-in"), (3, "paper-out"),
    ]  # fmt: skip


def test_every_wrong_line_is_said_with_its_number() -> None:
    text = "1 paper-out\nsoon paper-in\n2 paper-jam\n3\n4 paper-in now\n\n-1 paper-in\nnan paper-in\ninf paper-in\n1e9 paper-in\n"
    with pytest.raises(Invalid) as caught:
        parse(text, ACTIONS)
    assert {problem.path: problem.message for problem in caught.value.problems} == {
        "line 2": "write a number of seconds from the start (here: 'soon')",
        "line 3": "unknown action 'paper-jam'; `booth-agent demo --actions` lists them",
        "line 4": "write SECONDS ACTION, such as '30 paper-out' (here: '3')",
        "line 5": "write SECONDS ACTION, such as '30 paper-out' (here: '4 paper-in now')",
        "line 7": "write a number of seconds from the start (here: '-1')",
        "line 8": "write a number of seconds from the start (here: 'nan')",
        "line 9": "write a number of seconds from the start (here: 'inf')",
        "line 10": "write a number of seconds from the start (here: '1e9')",
    }
