"""The profiles and the image's floor: complete documents that build, and that stay within the bounds."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from agent import lockdown
from agent.contract.typed import build
from agent.peripherals import declared
from agent.settings import read

PROVISIONING: Final = Path(__file__).parents[1] / "provisioning"
PROFILES: Final = sorted(folder.name for folder in (PROVISIONING / "profiles").iterdir())
RULES: Final = lockdown.rules()
BOUNDS: Final = json.loads((PROVISIONING / "floor.json").read_text())["bounds"]
# What a booth of each profile says in its own agent.toml: what is plugged in, and where.
DEVICES: Final = {
    "document-printer": "ipp://127.0.0.1:631/printers/forms",
    "receipt-printer": "usb://04b8:0e15",
    "forms": None,
    "scanner": "sane:genesys:auto",
    "camera": "v4l2:/dev/video0",
    "network": None,
    "board": None,
}


def policy(name: str) -> dict[str, Any]:
    """`floor` is the one that applies while none was accepted."""
    if name == "floor":
        floor: dict[str, Any] = json.loads((PROVISIONING / "floor.json").read_text())["policy"]
        return floor
    profile: dict[str, Any] = json.loads((PROVISIONING / "profiles" / name / "policy.json").read_text())
    return profile


def part(rule: str, document: dict[str, Any]) -> Any:
    return build(RULES[rule].schema, document[rule], rule)


def test_there_are_the_two_profiles() -> None:
    assert PROFILES == ["fonctionnaire-virtuel", "visio-guichet"]


@pytest.mark.parametrize("document", [*map(policy, [*PROFILES, "floor"]), BOUNDS], ids=[*PROFILES, "floor", "bounds"])
def test_each_names_every_rule_and_every_section_builds(document: dict[str, Any]) -> None:
    assert document.keys() == RULES.keys()
    for rule in RULES:
        part(rule, document)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", [*PROFILES, "floor"])
def test_none_is_looser_than_the_bounds_in_any_rule(name: str, rule: str) -> None:
    beyond = RULES[rule].beyond or RULES[rule].looser
    assert not beyond(part(rule, BOUNDS), part(rule, policy(name)))


# Without a policy nobody stands before a dark booth, and its own devices are watched: on any port, since no slot is known yet.
@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"hours", "usb"}))
@pytest.mark.parametrize("name", PROFILES)
def test_the_floor_is_no_looser_than_any_profile(name: str, rule: str) -> None:
    """Without a policy the booth is open at every hour, since nobody has said which ones; and does nothing."""
    assert not RULES[rule].looser(part(rule, policy(name)), part(rule, policy("floor")))


@pytest.mark.parametrize(
    ("rule", "loose"),
    [
        ("web", {"downloads": True}),
        ("web", {"developer_tools": True}),
        ("web", {"incognito": True}),
        ("usb", {"classes": ["storage"]}),
        ("usb", {"slots": {"keyboard": ["storage"]}}),
        ("consoles", {"getty": True}),
        ("consoles", {"sysrq": True}),
        ("consoles", {"ctrl_alt_del": True}),
        ("session", {"keep": ["scans"]}),
        ("printing", {"history": True}),
    ],
)
def test_what_no_policy_may_loosen(rule: str, loose: dict[str, Any]) -> None:
    assert RULES[rule].looser(part(rule, BOUNDS), build(RULES[rule].schema, loose))


def test_a_policy_may_say_from_where_ssh_comes_in_and_none_does_by_itself() -> None:
    firewall = RULES["firewall"]
    anywhere = build(firewall.schema, {"ssh_from": ["0.0.0.0/0", "::/0"]})
    assert not (firewall.beyond or firewall.looser)(part("firewall", BOUNDS), anywhere)
    assert [part("firewall", policy(name)).ssh_from for name in [*PROFILES, "floor"]] == [[], [], []]


OPEN: Final = (
    *("service-public.gouv.fr", "service-public.fr", "wwwd.caf.fr", "connect.caf.fr", "francetravail.fr", "pole-emploi.fr"),
    *("authentification-candidat.francetravail.fr", "urssaf.fr", "cfspart.impots.gouv.fr", "timbres.impots.gouv.fr"),
    *("immatriculation.ants.gouv.fr", "passeport.ants.gouv.fr", "fc.assure.ameli.fr", "monespaceprive.msa.fr"),
    *("lidentitenumerique.laposte.fr", "app.franceconnect.gouv.fr", "oidc.franceconnect.gouv.fr", "france-identite.gouv.fr"),
)
CLOSED: Final = ("mail.google.com", "laposte.net", "gouv.fr", "example.org", "*")


def opens(name: str, site: str) -> bool:
    wanted = build(RULES["web"].schema, {"groups": {"it": [site]}, "allow": ["it"]}, "web")
    only = {"groups": policy(name)["web"]["groups"], "allow": policy(name)["web"]["allow"]}
    return not RULES["web"].looser(build(RULES["web"].schema, only, "web"), wanted)


@pytest.mark.parametrize("name", PROFILES)
def test_the_public_services_are_open_and_mail_waits_for_the_operator(name: str) -> None:
    assert [site for site in OPEN if not opens(name, site)] == []
    assert [site for site in CLOSED if opens(name, site)] == []
    assert "webmail" in policy(name)["web"]["groups"]


def test_only_the_visio_service_films() -> None:
    for name, films in (("fonctionnaire-virtuel", False), ("visio-guichet", True)):
        document = policy(name)
        assert bool(document["web"]["camera_origins"]) is films
        assert document["camera"] == {"use": "visio-sessions" if films else "denied", "microphone": films}
        assert ("webrtc" in document["firewall"]["services"]) is films


@pytest.mark.parametrize("name", PROFILES)
def test_no_disk_is_allowed_anywhere(name: str) -> None:
    usb = policy(name)["usb"]
    assert "storage" not in {*usb["classes"], *(word for words in usb["slots"].values() for word in words)}


@pytest.mark.parametrize("name", PROFILES)
def test_the_configuration_fits_a_booth_of_its_kind(name: str, tmp_path: Path) -> None:
    """Over a booth's own agent.toml, key by key: kind and device stand there alone."""
    document = json.loads((PROVISIONING / "profiles" / name / "config.json").read_text())
    assert document.keys() == {"reporting", "peripherals", "services", "hours", "heal", "light", "appointments"}
    options = document["peripherals"]
    assert not any({"kind", "device"} & table.keys() for table in options.values())
    local = {
        "booth": {"id": "61-0007", "area": "61"},
        "broker": {"url": "mqtt://127.0.0.1"},
        "peripherals": {
            peripheral: {"kind": peripheral} | ({"device": device} if device else {}) | options[peripheral]
            for peripheral, device in DEVICES.items()
            if peripheral in options
        },
    }
    assert local["peripherals"].keys() == options.keys()
    settings = read(local | {key: table for key, table in document.items() if key != "peripherals"}, declared(), tmp_path)
    assert settings.hours.tz == policy(name)["hours"]["tz"]
    assert settings.hours.week == policy(name)["hours"]["week"]
    assert settings.heal.longest_session_s > policy(name)["session"]["longest_s"]
    offered = {"fonctionnaire-virtuel": {"web", "forms", "print"}, "visio-guichet": {"web", "forms", "print", "scan", "visio"}}
    assert settings.services.keys() == offered[name]


@pytest.mark.parametrize("kind", ["config", "policy"])
@pytest.mark.parametrize("name", PROFILES)
def test_they_keep_the_published_schemas(name: str, kind: str) -> None:
    schema = json.loads((PROVISIONING.parent / "docs" / f"{kind}.schema.json").read_text())
    document = json.loads((PROVISIONING / "profiles" / name / f"{kind}.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(document)
    assert not validator.is_valid(document | {"colour": {}})
