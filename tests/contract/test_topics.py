"""Topic names, written and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.topics import ALL, DOCUMENT_KINDS, EVENT_CLASSES, Address, Topic

BOOTH = Address("61", "61-0007")
_name = st.from_regex("[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True).filter(lambda name: len(name) <= 64)
_address = st.builds(Address, st.from_regex("[a-z0-9-]{1,32}", fullmatch=True), st.from_regex("[a-z0-9-]{3,40}", fullmatch=True))


@given(_address, _name, _name, st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True), st.sampled_from(EVENT_CLASSES))
def test_what_is_written_is_read_again(address: Address, name: str, other: str, id_: str, class_: str) -> None:
    written = {
        address.state: ("state", ()),
        address.meta: ("meta", ()),
        address.led: ("led", ()),
        address.echo: ("echo", ()),
        address.health(name): ("health", (name,)),
        address.service(name): ("service", (name,)),
        address.alarm(name, other): ("alarm", (name, other)),
        address.event(class_): ("event", (class_,)),
        address.telemetry(name): ("tele", (name,)),
        address.reported("config"): ("reported", ("config",)),
        address.command_status(name, id_): ("cmd-status", (name, id_)),
    }
    for text, (kind, names) in written.items():
        assert Topic.parse(text) == Topic(address, kind, names)
    assert len(written) == 11


@pytest.mark.parametrize("kind", DOCUMENT_KINDS)
@pytest.mark.parametrize("place", [(ALL, ALL), ("61", ALL), ("61", "61-0007")])
def test_documents_are_read_for_the_fleet_an_area_and_one_booth(place: tuple[str, str], kind: str) -> None:
    assert Topic.parse(f"booth/v1/{place[0]}/{place[1]}/{kind}/desired") == Topic(Address(*place), "desired", (kind,))


@pytest.mark.parametrize("tail", ["state", "meta", "led", "health/board", "alarm/a/b", "event/health", "cmd/probe/req"])
def test_nothing_but_documents_is_for_many(tail: str) -> None:
    assert Topic.parse(f"booth/v1/{ALL}/{ALL}/{tail}") is None
    assert Topic.parse(f"booth/v1/61/{ALL}/{tail}") is None
    assert Topic.parse(f"booth/v1/61/61-0007/{tail}") is not None


@pytest.mark.parametrize(
    "text",
    [
        "", "booth", "booth/v1/61/61-0007", "booth/v1/61/61-0007/", "booth/v2/61/61-0007/state", "/booth/v1/61/61-0007/state",
        "booth/v1/61/61-0007/state/", "booth/v1/61/61-0007/state\n", "booth/v1/61/61-0007/STATE", "booth/v1/61/+/state",
        "booth/v1/61/#", "booth/v1//61-0007/state", "booth/v1/61/61/state", "booth/v1/é/61-0007/state",
        "booth/v1/6_1/61-0007/state", f"booth/v1/{'a' * 33}/61-0007/state", f"booth/v1/61/{'a' * 41}/state",
        "booth/v1/61/61-0007/health",
        "booth/v1/61/61-0007/health/a/b", "booth/v1/61/61-0007/health/a b", f"booth/v1/61/61-0007/health/{'a' * 65}",
        "booth/v1/61/61-0007/event/sport", "booth/v1/61/61-0007/trust/reported", "booth/v1/61/61-0007/cmd/probe",
        "booth/v1/61/61-0007/cmd/probe/a b/status", "homeassistant/sensor/state", "$SYS/broker/version",
    ],
)  # fmt: skip
def test_a_topic_of_nobody_here_is_none(text: str) -> None:
    assert Topic.parse(text) is None


@given(st.text(max_size=80))
def test_no_text_at_all_breaks_it(text: str) -> None:
    assert Topic.parse(text) is None or text.startswith("booth/v1/")


def test_a_booth_listens_to_its_documents_its_commands_and_itself() -> None:
    wanted = {
        f"booth/v1/{place}/{kind}/desired" for place in ("61/61-0007", f"61/{ALL}", f"{ALL}/{ALL}") for kind in DOCUMENT_KINDS
    } | {"booth/v1/61/61-0007/cmd/+/req", "booth/v1/61/61-0007/echo"}
    assert set(BOOTH.subscriptions()) == wanted
    assert len(BOOTH.subscriptions()) == len(wanted)
