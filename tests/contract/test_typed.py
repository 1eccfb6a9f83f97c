"""The validator: every problem at once, each with its path; and a schema that says the same as it does."""

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.contract import alarm, command, documents, event, health, state
from agent.contract.decode import decode, encode
from agent.contract.messages import PUBLISHED
from agent.contract.typed import Check, Invalid, Length, Pattern, Problem, Range, build, plain, schema


@dataclass(frozen=True)
class Wheel:
    size: Annotated[int, Range(10, 30)]
    tyre: Literal["slick", "studded"] = "slick"


@dataclass(frozen=True)
class Car:
    name: Annotated[str, Pattern("[a-z]+", "a name of small letters"), Length(5)]
    wheels: list[Wheel]
    power_w: float | None = None
    tags: dict[str, bool] = field(default_factory=dict)
    owner: int | Annotated[str, Length(3)] | None = None
    colours: tuple[str, ...] = ()
    class_: str = field(default="small", metadata={"key": "class"})
    even: Annotated[int, Check(lambda value: "write an even number" if value % 2 else None, "even")] = 0
    anything: Any = None


def problems(type_: Any, value: object, **options: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        build(type_, value, **options)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), "one problem for each path"
    return found


GOOD: dict[str, Any] = {"name": "twingo", "wheels": []} | {"name": "clio"}


def test_a_good_value_becomes_its_dataclass() -> None:
    car = build(Car, GOOD | {"wheels": [{"size": 15}], "class": "big", "colours": ["red"], "owner": "abc", "power_w": 3})
    assert car == Car("clio", [Wheel(15)], power_w=3.0, owner="abc", colours=("red",), class_="big")
    assert isinstance(car.power_w, float)


def test_what_has_a_default_may_be_left_out() -> None:
    assert build(Car, GOOD) == Car("clio", [])


def test_every_problem_is_found_at_once_each_with_its_path() -> None:
    found = problems(
        Car,
        {
            "name": "Clio", "wheels": [{"size": 15}, {"size": 31, "tyre": "square"}, {}, 7], "power_w": "much",
            "tags": {"new": 1}, "owner": [], "colours": ["red", 3], "class": None, "even": 3, "doors": 4,
        },
    )  # fmt: skip
    assert found == {
        "name": "write a name of small letters (here: 'Clio')",
        "wheels[1].size": "write a number from 10 to 30 (here: 31)",
        "wheels[1].tyre": "write one of slick, studded (here: 'square')",
        "wheels[2].size": "missing; write a whole number",
        "wheels[3]": "write a table with its keys (here: 7)",
        "power_w": "write a number (here: 'much')",
        "tags.new": "write true or false (here: 1)",
        "owner": "write a whole number (here: [])",
        "colours[1]": "write a text (here: 3)",
        "class": "write a text (here: None)",
        "even": "write an even number",
        "doors": "unknown key; known here: anything, class, colours, even, name, owner, power_w, tags, wheels",
    }


def test_one_value_may_break_two_rules() -> None:
    with pytest.raises(Invalid) as caught:
        build(Car, GOOD | {"name": "TWINGO"})
    assert [problem.message for problem in caught.value.problems] == [
        "write a name of small letters (here: 'TWINGO')",
        "at most 5 long (here: 6)",
    ]


def test_what_is_missing_is_said_with_what_to_write() -> None:
    assert problems(Car, {}) == {"name": "missing; write a name of small letters", "wheels": "missing; write its value"}


def test_unknown_keys_are_refused_at_every_level_or_ignored_at_every_level() -> None:
    value = GOOD | {"wheels": [{"size": 15, "spokes": 3}], "doors": 4}
    assert set(problems(Car, value)) == {"doors", "wheels[0].spokes"}
    assert build(Car, value, unknown="ignore") == Car("clio", [Wheel(15)])


def test_a_path_begins_where_the_caller_says() -> None:
    assert set(problems(Car, {"name": 1, "wheels": [0]}, path="cars[3]")) == {"cars[3].name", "cars[3].wheels[0]"}
    assert str(Problem("", "wrong")) == "(whole document): wrong"


@pytest.mark.parametrize("value", [None, 1, "x", [], True])
def test_a_value_of_another_kind_altogether_is_one_problem(value: object) -> None:
    assert set(problems(Car, value)) == {""}


@pytest.mark.parametrize(
    ("type_", "value", "result"),
    [(int, 1, 1), (int, 1.0, 1), (int, -0.0, 0), (float, 1, 1.0), (float, 1.5, 1.5), (bool, True, True), (Literal[1], 1.0, 1)],
)
def test_a_number_is_what_json_calls_one(type_: Any, value: object, result: object) -> None:
    built: Any = build(type_, value)
    assert built == result
    assert type(built) is type(result)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, True), (int, 1.5), (int, "1"), (int, float("inf")), (int, float("nan")), (float, True), (float, "1"),
        (float, 10**400),
        (bool, 1), (bool, 0), (bool, "true"), (str, 1), (str, None), (Literal[1], True), (Literal[1], "1"), (Literal["1"], 1),
        (Annotated[float, Range(0, 1)], float("nan")), (list[int], "ab"),
        (list[int], {"0": 1}), (dict[str, int], [1]), (tuple[int, ...], 1),
    ],
)  # fmt: skip
def test_nothing_is_taken_for_something_else(type_: Any, value: object) -> None:
    assert list(problems(type_, value)) == [""]


def test_an_integer_of_more_digits_than_python_writes_is_one_problem_too() -> None:
    for type_ in (str, float, Annotated[int, Range(0, 9)]):
        assert "a number that is far too long" in problems(type_, 16**5000)[""]


def test_the_first_arm_of_a_union_that_fits_is_taken() -> None:
    assert build(int | str | None, None) is None  # type: ignore[arg-type]
    assert build(int | str | None, "x") == "x"  # type: ignore[arg-type]
    either: Any = Wheel | list[Wheel]
    assert build(either, [{"size": 12}]) == [Wheel(12)]


def test_a_union_complains_as_the_arm_that_fits_best() -> None:
    assert set(problems(Car | Wheel, {"size": 99})) == {"size"}


def test_the_names_in_a_table_are_checked_like_its_values() -> None:
    names = dict[Annotated[str, Pattern("[a-z]+", "a name of small letters")], int]
    assert problems(names, {"a": 1, "B": 2}, path="doors") == {"doors": "write a name of small letters (here: 'B')"}


@pytest.mark.parametrize("key", ["\x1b[2J", "a\nb", "\u202e", "k" * 10_000])
def test_a_key_from_outside_is_harmless_in_the_path(key: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Wheel, {"size": 15, key: 1})
    (problem,) = caught.value.problems
    assert problem.path.isprintable()
    assert len(problem.path) < 100


@pytest.mark.parametrize("value", ["\x1b[2J" * 1000, 10**200, "x" * 100_000])
def test_a_value_from_outside_is_short_and_harmless_in_the_message(value: object) -> None:
    for type_ in (bool, Annotated[int, Range(0, 5)], Literal["a"]):
        message = problems(type_, value)[""]
        assert message.isprintable()
        assert len(message) < 150


def test_a_large_limit_is_written_in_full() -> None:
    assert problems(Annotated[int, Range(0, 2**53)], -1)[""] == "write a number from 0 to 9007199254740992 (here: -1)"


def test_plain_is_the_way_back() -> None:
    value = {
        "name": "clio", "wheels": [{"size": 15, "tyre": "studded"}], "power_w": 3.5, "tags": {"new": True}, "owner": None,
        "colours": ["red"], "class": "big", "even": 2, "anything": {"x": [1]},
    }  # fmt: skip
    assert plain(build(Car, value)) == value


# --- what `build` takes is what the emitted schema takes, by a validator that is not ours ---

TYPES: list[Any] = [
    state.State, state.Meta, health.Health, alarm.Alarm, event.Event, event.Telemetry, command.Request, command.SignedRequest,
    command.CommandStatus, command.Chunk, documents.Document, documents.Reported, documents.PolicyReported,
    documents.UpdateReported, Wheel,
]  # fmt: skip

# Without line feeds: `$` is the end of the text in ECMAScript, whose patterns JSON Schema's are; Python's lets one follow.
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8)
_scalar = st.none() | st.booleans() | st.integers(-100, 10**18) | st.floats(allow_nan=False, allow_infinity=False) | _text
_any = st.recursive(_scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=5)


@cache
def _matching(pattern: str, most: int) -> st.SearchStrategy[str]:
    return st.from_regex(pattern.replace("$", r"\Z")).filter(lambda text: len(text) <= most)


def fitting(schema_: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema of the kinds that we emit."""
    if "enum" in schema_:
        return st.sampled_from(schema_["enum"])
    if "anyOf" in schema_:
        return st.one_of([fitting(arm) for arm in schema_["anyOf"]])
    low, high = schema_.get("minimum"), schema_.get("maximum")
    match schema_.get("type"):
        case "object" if "properties" in schema_:
            fields = {key: fitting(item) for key, item in schema_["properties"].items()}
            required = {key: item for key, item in fields.items() if key in schema_["required"]}
            return st.fixed_dictionaries(required, optional={key: fields[key] for key in fields.keys() - required.keys()})
        case "object":
            names = fitting(schema_["propertyNames"]) if "propertyNames" in schema_ else _text
            values = _any if schema_["additionalProperties"] in ({}, True) else fitting(schema_["additionalProperties"])
            return st.dictionaries(names, values, max_size=3)
        case "array":
            return st.lists(fitting(schema_["items"]), max_size=3)
        case "string" if "pattern" in schema_:
            most = schema_.get("maxLength", 1000)
            return _matching(schema_["pattern"], most)
        case "string":
            return _text
        case "integer":
            return st.integers(low, high) | st.integers(low, high).filter(lambda number: abs(number) < 2**53).map(float)
        case "number":
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return _any


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [(value, key) for key, _ in inside] + [place for _, item in inside for place in _places(item)]


@st.composite
def nearly_fitting(draw: st.DrawFn, schema_: dict[str, Any]) -> Any:
    """A value that fits, or one with a change or two in it."""
    value = decode(encode(draw(fitting(schema_))))
    for _ in range(draw(st.integers(0, 2))):
        places = _places(value)
        if not places or not isinstance(value, dict):
            return draw(_any)
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            container[key] = draw(_any)
        elif change == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(_text)] = draw(_any)
    return value


def accepted(type_: Any, value: object) -> bool:
    try:
        build(type_, value)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: getattr(type_, "__name__", "Telemetry"))
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_build_and_the_emitted_schema_accept_the_same(type_: Any, data: st.DataObject) -> None:
    emitted = schema(type_)
    value = data.draw(nearly_fitting(emitted), "value")
    errors = [error.message for error in jsonschema.Draft202012Validator(emitted).iter_errors(value)]
    assert accepted(type_, value) == (not errors), errors


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: getattr(type_, "__name__", "Telemetry"))
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_fits_comes_back_the_same(type_: Any, data: st.DataObject) -> None:
    value = data.draw(fitting(schema(type_)))
    built = build(type_, value)
    assert build(type_, plain(built)) == built
    if dataclasses.is_dataclass(type_):
        assert plain(built).items() >= value.items(), "nothing that was said is lost"


def test_every_payload_type_of_the_contract_is_among_them() -> None:
    assert {id(kind.type) for kind in PUBLISHED.values() if not kind.word} <= {id(type_) for type_ in TYPES}


def test_the_schema_says_what_is_required_and_refuses_what_it_does_not_know() -> None:
    assert schema(Wheel) == {
        "type": "object",
        "properties": {"size": {"type": "integer", "minimum": 10, "maximum": 30}, "tyre": {"enum": ["slick", "studded"]}},
        "required": ["size"],
        "additionalProperties": False,
    }


def test_a_rule_that_looks_a_name_up_as_a_file_says_what_to_write_where_no_file_can_have_it() -> None:
    def known(name: str) -> str | None:
        return None if (Path("/usr/share/zoneinfo") / name).is_file() else "write a known zone"

    for name in ("a" * 300, "b/" * 3000):
        with pytest.raises(Invalid) as refused:
            build(Annotated[str, Check(known, "a zone")], name)  # type: ignore[arg-type]
        assert "zone" in refused.value.problems[0].message


def test_what_is_too_long_is_not_looked_at_entry_by_entry() -> None:
    """Whoever has no key may send 90,000 signatures."""
    many = [{"size": "large"}] * 90_000
    for type_, value in (
        (Annotated[list[Wheel], Length(32)], many),
        (Annotated[tuple[Wheel, ...], Length(32)], many),
        (Annotated[dict[str, Wheel], Length(32)], {str(number): wheel for number, wheel in enumerate(many)}),
    ):
        with pytest.raises(Invalid) as refused:
            build(type_, value, "wheels")  # type: ignore[arg-type]
        assert refused.value.problems == [Problem("wheels", "at most 32 long (here: 90000)")]


def test_what_is_of_another_type_is_told_so_whatever_its_length() -> None:
    for type_, value, said in (
        (Annotated[list[int], Length(2)], "a text", "write a list"),
        (Annotated[str, Length(2)], [1, 2, 3], "write a text"),
        (Annotated[dict[str, int], Length(2)], [1, 2, 3], "write a table"),
    ):
        with pytest.raises(Invalid, match=said):
            build(type_, value)  # type: ignore[arg-type]


def test_the_message_of_many_problems_is_short_and_has_none_of_the_problems_missing() -> None:
    with pytest.raises(Invalid) as refused:
        build(list[int], ["x"] * 60_000)
    assert len(refused.value.problems) == 60_000
    assert len(str(refused.value)) < 10_000
    assert str(refused.value).endswith("; and 59950 more")
