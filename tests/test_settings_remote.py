"""The operator's configuration over `agent.toml`: everything but what names a file, a program or a device of the booth."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.decode import MAX_BYTES, encode
from agent.contract.documents import CONFIG_SECTIONS, LayerName
from agent.contract.typed import Invalid, Pattern, Range, build, plain
from agent.overlay import merged
from agent.peripherals import declared
from agent.peripherals.declaration import LOCAL
from agent.settings import read
from agent.settings_remote import layer_problems, local_options, reported_sections, result_problems

KINDS = declared()
HERE = Path("/nonexistent")

# One of each kind, with no more than it has to have.
SMALLEST: dict[str, dict[str, Any]] = {
    "audio": {},
    "board": {},
    "camera": {"device": "v4l2:/dev/video0"},
    "document-printer": {"device": "ipp://localhost/printers/office"},
    "forms": {},
    "kiosk": {"unit": "kiosk.service"},
    "network": {},
    "receipt-printer": {"device": "tcp://127.0.0.1:9100"},
    "scanner": {"device": "sane:airscan:e0:Scanner"},
}
LOCAL_DATA: dict[str, Any] = {
    "booth": {"id": "61-0007", "area": "61"},
    "broker": {"url": "mqtt://127.0.0.1:1883"},
    "peripherals": {kind: {"kind": kind, **options} for kind, options in SMALLEST.items()},
}
CONFIGURABLE = sorted(set(KINDS) - {"booth"})


def problems(document: Any, local: Mapping[str, Any] = LOCAL_DATA) -> dict[str, str]:
    return {problem.path: problem.message for problem in layer_problems(document, local, KINDS, HERE)}


def applied(document: Mapping[str, Any], layer: LayerName = "booth") -> Any:
    return read(merged(LOCAL_DATA, {layer: document}), KINDS, HERE)


def test_each_kind_has_an_example_here() -> None:
    assert sorted(SMALLEST) == CONFIGURABLE, "a new kind: write the least that its table has to say"
    assert layer_problems({}, LOCAL_DATA, KINDS, HERE) == []


# --- every option of every kind, from the declarations ---


def options(*, local: bool) -> list[tuple[str, str]]:
    found = []
    for kind in CONFIGURABLE:
        fields = dataclasses.fields(KINDS[kind].options)
        found += [(kind, field.name) for field in fields if bool(field.metadata.get("local")) is local]
    return found


def wire_name(kind: str, name: str) -> str:
    [field] = [field for field in dataclasses.fields(KINDS[kind].options) if field.name == name]
    return str(field.metadata.get("key", name))


def another(type_: Any, now: Any) -> Any:
    """A value that fits the type, and is not the one that it has now."""
    fitting = []
    for candidate in candidates(type_):
        try:
            build(type_, candidate)
        except Invalid:
            continue
        if candidate != now:
            fitting.append(candidate)
    assert fitting, f"no example for {type_}: add one to `candidates`"
    return fitting[0]


def candidates(type_: Any) -> Iterator[Any]:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Annotated:
        for constraint in arguments[1:]:
            if isinstance(constraint, Range):
                yield from (int(constraint.low), int(constraint.high), (constraint.low + constraint.high) / 2)
            elif isinstance(constraint, Pattern):
                yield from ("wlan0", "a-b", "1", "04b8:0202", "0123:4567/SERIAL", "a.service", "/etc/sane.d", "x")
        yield from candidates(arguments[0])
    elif origin is Literal:
        yield from arguments
    elif arguments and origin not in (list, tuple, dict):
        for arm in arguments:
            yield from candidates(arm)
    elif origin in (list, tuple):
        yield from ([], list(candidates(arguments[0]))[:1])
    else:
        yield from _PLAIN.get(type_, [])


_PLAIN: dict[Any, list[Any]] = {
    bool: [True, False],
    int: [1, 7, 100, 1000],
    float: [1.5, 7.0, 100.0],
    str: ["http://check.example/204", "https://check.example/204", "x", "default", "0000:0001", "1.2"],
}


@pytest.mark.parametrize(("kind", "name"), options(local=False))
def test_every_option_that_is_not_the_booths_own_is_set_remotely(kind: str, name: str) -> None:
    type_ = typing.get_type_hints(KINDS[kind].options, include_extras=True)[name]
    before = {item.name: item.options for item in applied({}).peripherals}
    value = another(type_, plain(getattr(before[kind], name)))
    document = {"peripherals": {kind: {wire_name(kind, name): value}}}
    wrong = layer_problems(document, LOCAL_DATA, KINDS, HERE)
    assert not [problem for problem in wrong if problem.path == f"doc.peripherals.{kind}.{name}"], wrong
    if wrong:  # it only goes together with others: then that is what is said
        assert [problem.path for problem in wrong] == [f"doc.peripherals.{kind}"]
        return
    after = {item.name: item.options for item in applied(document).peripherals}
    assert plain(getattr(after.pop(kind), name)) == pytest.approx(value)
    assert after == {other: options for other, options in before.items() if other != kind}


@pytest.mark.parametrize(("kind", "name"), [*options(local=True), *((kind, "kind") for kind in CONFIGURABLE)])
def test_what_names_a_file_a_program_or_a_device_only_agent_toml_sets(kind: str, name: str) -> None:
    key = name if name == "kind" else wire_name(kind, name)
    mine = LOCAL_DATA["peripherals"][kind].get(key)
    for value in (mine, "/bin/sh", None, 1):
        found = problems({"peripherals": {kind: {key: value}}})
        assert list(found) == [f"doc.peripherals.{kind}.{key}"], "not even the value that it has"
        assert "only agent.toml" in found[f"doc.peripherals.{kind}.{key}"]


# Compared with what the kernel or the mixer calls its own, and given to nobody.
_COMPARED = {("network", "interface"), ("audio", "microphone_control"), ("audio", "speaker_control")}


def test_no_option_that_takes_a_path_or_a_program_is_forgotten() -> None:
    """What a document may set is no path: whoever adds such an option marks it LOCAL."""
    for kind, name in set(options(local=False)) - _COMPARED:
        type_ = typing.get_type_hints(KINDS[kind].options, include_extras=True)[name]
        for value in ("/bin/sh", "/dev/sda", "/etc/passwd", "../x"):
            with pytest.raises(Invalid):
                build(type_, value)


@pytest.mark.parametrize("name", ["device", "kind"])
def test_not_even_a_peripheral_that_this_booth_does_not_have_gets_a_device(name: str) -> None:
    assert list(problems({"peripherals": {"elsewhere": {name: "x"}}})) == [f"doc.peripherals.elsewhere.{name}"]
    assert problems({"peripherals": {"elsewhere": {"whatever": "x"}}}) == {}


def test_the_mark_is_what_declarations_say() -> None:
    assert LOCAL == {"local": True}
    assert local_options(KINDS["camera"]) >= {"device"}
    assert {kind: local_options(KINDS[kind]) for kind in ("board", "network")} == {"board": set(), "network": set()}


# --- sections ---

SECTION_EXAMPLES: dict[str, Any] = {
    "reporting": {"telemetry_s": 77},
    "hours": {"tz": "Europe/Brussels", "week": {"mon": ["09:00-12:00"]}, "exceptions": {"2026-12-25": []}},
    "checks": {"every_s": 600},
    "heal": {"per_day": 3},
    "light": {"white": "booth:white:status"},
    "ticket": {"phone": "02 33 00 00 00", "auto": True},
    "updates": {"spread_s": 600, "rate_kib_s": 64},
    "services": {"scan": {"offered": False}},
    "broker": {"url": "mqtt://127.0.0.1:1884", "keepalive_s": 60},
    "appointments": {"at": ["2026-12-01T09:30"]},
    "home_assistant": {"enabled": True},
    "peripherals": {"board": {"over_temperature_c": 61}},
}


@pytest.mark.parametrize("name", CONFIG_SECTIONS)
def test_each_section_lands_in_the_settings_and_is_reported_with_its_layer(name: str) -> None:
    documents: dict[LayerName, Any] = {"area": {name: SECTION_EXAMPLES[name]}}
    assert layer_problems(documents["area"], LOCAL_DATA, KINDS, HERE) == []
    settings_ = read(merged(LOCAL_DATA, documents), KINDS, HERE)
    sections = reported_sections(settings_, LOCAL_DATA, documents)
    assert encode(sections)
    if name == "peripherals":
        assert sections[name]["names"]["board"]["layer"] == "area"
        assert sections[name]["names"]["board"]["value"]["over_temperature_c"] == 61
        assert sections[name]["names"]["camera"]["layer"] == "local"
        return
    assert sections[name]["layer"] == "area"
    if name == "home_assistant":
        assert sections[name]["status"] == "unsupported"
    elif name == "services":
        assert "scan" not in sections[name]["value"]
    else:
        assert SECTION_EXAMPLES[name].items() <= sections[name]["value"].items()
        assert settings_ != read(LOCAL_DATA, KINDS, HERE)


def test_over_agent_toml_a_section_lies_key_by_key_and_layers_do_not_mix() -> None:
    local = LOCAL_DATA | {"reporting": {"heartbeat_s": 500, "alarm_after_s": 5}}
    documents: dict[LayerName, Any] = {
        "fleet": {"reporting": {"telemetry_s": 60, "heartbeat_s": 700}},
        "booth": {"reporting": {"telemetry_s": 61}},
    }
    assert merged(local, documents)["reporting"] == {"heartbeat_s": 500, "alarm_after_s": 5, "telemetry_s": 61}


@given(st.data())
def test_merging_twice_is_merging_once_and_changes_neither_file_nor_document(data: st.DataObject) -> None:
    layers: list[LayerName] = ["fleet", "area", "booth"]
    documents = {
        layer: data.draw(st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in SECTION_EXAMPLES.items()}))
        for layer in layers
    }
    before = (encode(LOCAL_DATA), encode(documents))
    once = merged(LOCAL_DATA, documents)
    assert merged(once, documents) == once
    assert (encode(LOCAL_DATA), encode(documents)) == before


def test_nothing_of_a_file_or_a_secret_is_reported() -> None:
    local = LOCAL_DATA | {"broker": LOCAL_DATA["broker"]}
    text = encode(reported_sections(read(local, KINDS, HERE), local, {})).decode()
    for hidden in ("/dev/video0", "kiosk.service", "airscan", "9100", "amixer", "ca", "certificate", '"key"'):
        assert f'"{hidden}"' not in text
        if hidden not in ("ca", "certificate", '"key"'):
            assert hidden not in text


# --- what is wrong ---


def test_every_problem_is_said_with_its_path() -> None:
    document = {
        "colour": {},
        "booth": {"id": "61-0008"},
        "reporting": 3,
        "broker": {"ca": "x", "key": "y", "certificate": "z"},
        "peripherals": {"board": [], "camera": {"device": "v4l2:/dev/video1"}},
        "home_assistant": {"enabled": 1, "token": "x"},
        "\x1b[2J": {},
        "checks": {"every_s": "often"},
    }
    assert set(problems(document)) == {
        "doc.colour", "doc.booth", "doc.reporting", "doc.broker.ca", "doc.broker.key", "doc.broker.certificate",
        "doc.peripherals.board", "doc.peripherals.camera.device", "doc.home_assistant.enabled", "doc.home_assistant.token",
        "doc.checks.every_s", "doc.'\\x1b[2J'",
    }  # fmt: skip


def test_wrong_values_are_said_all_at_once_too() -> None:
    document = {
        "reporting": {"telemetry_s": 4, "heartbeat_s": "60", "alarm_after_s": True, "often": 1},
        "hours": {"week": {"mon": ["9-12"], "montag": []}, "exceptions": {"2026-02-30": []}, "tz": "Europe/Nowhere"},
        "services": {"print": {"needs": ["typewriter"]}, "coffee": {}},
        "appointments": {"at": ["tomorrow"]},
        "broker": {"url": "http://broker", "keepalive_s": 1},
        "peripherals": {"board": {"over_temperature_c": "hot", "unknown": 1}},
    }
    assert {
        "doc.reporting.telemetry_s", "doc.reporting.heartbeat_s", "doc.reporting.alarm_after_s", "doc.reporting.often",
        "doc.hours.week.mon", "doc.hours.exceptions", "doc.hours.tz", "doc.appointments.at",
        "doc.broker.url", "doc.broker.keepalive_s", "doc.peripherals.board.over_temperature_c", "doc.peripherals.board.unknown",
        "doc.services.print.needs", "doc.services.coffee",
    } <= set(problems(document))  # fmt: skip


def test_a_name_that_no_file_can_have_is_no_time_zone() -> None:
    for zone in ("a" * 300, "a/" * 3000 + "a", "../../etc/passwd", "\x00", ""):
        assert list(problems({"hours": {"tz": zone}})) == ["doc.hours.tz"]


def test_a_broker_without_tls_does_not_replace_one_with_certificates(tmp_path: Path) -> None:
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_text("")
    broker = {"url": "mqtts://broker.example", "ca": "ca", "certificate": "certificate", "key": "key"}
    local = LOCAL_DATA | {"broker": broker}
    assert layer_problems({"broker": {"url": "mqtts://other.example"}}, local, KINDS, tmp_path) == []
    [problem] = layer_problems({"broker": {"url": "mqtt://other.example"}}, local, KINDS, tmp_path)
    assert problem.path == "doc.broker.url"


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_INSIDE = ("week", "exceptions", "tz", "at", "url", "print")
_keys = sorted({key for kind in CONFIGURABLE for key in (field.name for field in dataclasses.fields(KINDS[kind].options))})


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(CONFIG_SECTIONS) | st.text(max_size=6),
        _values | st.dictionaries(st.sampled_from([*_keys, *CONFIGURABLE, *_INSIDE]), _values),
        max_size=3,
    )
    | st.dictionaries(
        st.just("peripherals"),
        st.dictionaries(st.sampled_from([*CONFIGURABLE, "other"]), st.dictionaries(st.sampled_from(_keys), _values) | _values),
    )
)  # fmt: skip
def test_whatever_a_document_holds_it_is_read_or_told(document: dict[str, Any]) -> None:
    found = layer_problems(document, LOCAL_DATA, KINDS, HERE)
    assert all(problem.path.startswith("doc.") and problem.message for problem in found)
    if not found:
        assert encode(reported_sections(applied(document), LOCAL_DATA, {"booth": document}))


def test_two_good_layers_may_be_wrong_together() -> None:
    documents: dict[LayerName, Any] = {
        "fleet": {"light": {"white": "booth:white:status"}},
        "booth": {"light": {"gpio": True}},
    }
    assert all(not layer_problems(document, LOCAL_DATA, KINDS, HERE) for document in documents.values())
    assert result_problems(merged(LOCAL_DATA, documents), KINDS, HERE) == [], "a section is whole, so that these do not meet"
    local = LOCAL_DATA | {"light": {"white": "booth:white:status"}}
    assert list(problems(documents["booth"], local)) == ["doc.light"]


def test_a_document_of_the_largest_size_has_all_its_problems(tmp_path: Path) -> None:
    names = {f"p{number}": 0 for number in range(20_000)}
    document = {"reporting": names}
    assert len(encode(document)) < MAX_BYTES
    assert len(layer_problems(document, LOCAL_DATA, KINDS, tmp_path)) == len(names)
