"""`agent.toml`: a good one is read as it stands; of a bad one every mistake is said at once, with what to write."""

import re
from pathlib import Path

import pytest

from agent.contract.typed import Invalid
from agent.peripherals import declared
from agent.settings import Settings, load

GOOD = """
[booth]
id = "61-0007"
area = "61"
timezone = "Europe/Paris"

[broker]
url = "mqtts://broker.example"
ca = "ca.pem"
certificate = "tls/booth.pem"
key = "tls/booth.key"
keepalive_s = 45

[reporting]
heartbeat_s = 1800
telemetry_s = 300
alarm_after_s = 60

[hours]
tz = "Europe/Brussels"
[hours.week]
mon = ["07:00-12:30", "14:00-19:30"]
sun = ["08:00-24:00"]
[hours.exceptions]
2026-12-25 = []
2026-12-31 = ["07:00-12:00"]

[services.print]
either = ["document-printer"]

[peripherals.receipt-printer]
kind = "receipt-printer"
device = "serial:///dev/serial/by-id/usb-1?baud=38400"
poll_s = 5

[peripherals.network]
kind = "network"
check_url = "http://check.operator.example/204"

[peripherals.board]
kind = "board"
over_temperature_c = 75.5
"""
SMALLEST = '[booth]\nid = "61-0007"\narea = "61"\n[broker]\nurl = "mqtt://127.0.0.1"\n[peripherals]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    for name in ("ca.pem", "tls/booth.pem", "tls/booth.key"):
        (tmp_path / name).write_text("-")
    return tmp_path


def read(folder: Path, text: str | bytes) -> Settings:
    file = folder / "agent.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file, declared())


def problems(folder: Path, text: str | bytes) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read(folder, text)
    assert all(problem.message.isprintable() for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_good_file_is_read_as_it_stands(folder: Path) -> None:
    settings = read(folder, GOOD)
    assert (settings.booth.id, settings.booth.area, settings.booth.timezone) == ("61-0007", "61", "Europe/Paris")
    broker = settings.broker
    assert (broker.host, broker.port, broker.tls, broker.keepalive_s) == ("broker.example", 8883, True, 45)
    assert (broker.ca, broker.certificate, broker.key) == (folder / "ca.pem", folder / "tls/booth.pem", folder / "tls/booth.key")
    reporting = settings.reporting
    assert (reporting.heartbeat_s, reporting.telemetry_s, reporting.alarm_after_s) == (1800, 300, 60)
    assert settings.hours.tz == "Europe/Brussels"
    assert settings.hours.week == {"mon": ["07:00-12:30", "14:00-19:30"], "sun": ["08:00-24:00"]}
    assert settings.hours.exceptions == {"2026-12-25": [], "2026-12-31": ["07:00-12:00"]}
    assert settings.services["print"].either == ("document-printer",)
    assert [(item.name, item.peripheral.kind) for item in settings.peripherals] == [
        ("receipt-printer", "receipt-printer"), ("network", "network"), ("board", "board"),
    ]  # fmt: skip
    assert settings.peripherals[0].options.poll_s == 5.0
    assert settings.peripherals[2].options.over_temperature_c == 75.5


def test_the_smallest_file_has_the_contracts_defaults(folder: Path) -> None:
    settings = read(folder, SMALLEST)
    reporting = settings.reporting
    assert (reporting.heartbeat_s, reporting.telemetry_s, reporting.alarm_after_s) == (3600, 900, 30)
    assert (settings.broker.port, settings.broker.tls, settings.broker.keepalive_s) == (1883, False, 30)
    assert (settings.hours.tz, settings.hours.week, settings.hours.exceptions) == ("Europe/Paris", {}, {})
    assert set(settings.services) == {"web", "forms", "print", "scan", "visio"}
    assert settings.peripherals == ()


def test_hours_without_a_zone_of_their_own_are_in_the_booths(folder: Path) -> None:
    assert read(folder, SMALLEST.replace('area = "61"', 'area = "61"\ntimezone = "Indian/Reunion"')).hours.tz == "Indian/Reunion"


def test_the_file_that_is_installed_is_good(folder: Path) -> None:
    template = Path(__file__).parents[1] / "provisioning" / "agent.toml"
    text = template.read_text()
    for name in re.findall(r'^(?:ca|certificate|key) = "(.+)"', text, re.MULTILINE):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("-")
    assert read(folder, text).peripherals


TEN_MISTAKES = """
colour = "red"

[booth]
id = "Booth 7"
area = "61"
timezone = "Europe/Alencon"

[broker]
url = "mqtt://broker.example"
ca = "ca.pem"
certificate = "missing.pem"
keepalive_s = 1

[reporting]
heartbeat_s = "hourly"
alarm_after = 3

[hours.week]
mon = ["12:30-07:00"]
monday = []

[services.coffee]
needs = ["network"]

[services.web]
needs = ["coffee-machine"]

[peripherals.Receipt_Printer]
kind = "receipt-printer"
device = "tcp://192.0.2.9"
poll_s = 99

[peripherals.booth]
kind = "board"
interval_s = true

[peripherals.toaster]
kind = "toaster"

[peripherals.silent]
"""


def test_of_a_bad_file_every_mistake_is_said_at_once_with_its_path_and_what_to_write(folder: Path) -> None:
    found = problems(folder, TEN_MISTAKES)
    expected = {
        "colour": "unknown key; known here: appointments, booth, broker, button, checks, heal, hours, light, peripherals, ",
        "booth.id": "write a name of a-z, 0-9 and '-'",
        "booth.timezone": "write a time zone of the IANA database, such as Europe/Paris (here: 'Europe/Alencon')",
        "broker.url": "write mqtts://…: plain mqtt:// is allowed for a broker on this machine only",
        "broker.keepalive_s": "write a number from 5 to 3600 (here: 1)",
        "broker.certificate": f"there is no file {folder}/missing.pem",
        "broker": "write certificate and key together, or neither",
        "reporting.heartbeat_s": "write a whole number (here: 'hourly')",
        "reporting.alarm_after": "unknown key; known here: alarm_after_s, heartbeat_s, telemetry_s",
        "hours.week.mon": "write spans such as 07:00-12:30, the end after the beginning (here: '12:30-07:00')",
        "services.coffee": "unknown service; write one of web, forms, print, scan, visio",
        "services.web.needs": "unknown kind 'coffee-machine'; write some of ",
        "peripherals.Receipt_Printer": "write the name in kebab-case, such as receipt-printer",
        "peripherals.Receipt_Printer.device": "write tcp://HOST:PORT, such as tcp://192.0.2.9:9100",
        "peripherals.Receipt_Printer.poll_s": "write a number from 1 to 15 (here: 99",
        "peripherals.booth": 'the name "booth" is the agent\'s own; take another one',
        "peripherals.booth.interval_s": "write a number (here: True)",
        "peripherals.toaster.kind": "unknown kind 'toaster'; write one of ",
        "peripherals.silent.kind": "missing; write one of ",
    }
    assert found.keys() == expected.keys()
    for path, message in expected.items():
        assert found[path].startswith(message), path


def test_a_day_that_is_none_is_said_where_the_rest_of_the_week_is_good(folder: Path) -> None:
    found = problems(folder, changed('sun = ["08:00-24:00"]', "sunday = []"))
    assert found == {"hours.week": "days are mon, tue, wed, thu, fri, sat, sun (here: sunday)"}


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ('"mqtts://broker.example"', '"broker.example:8883"', "broker.url", "write mqtts://HOST:8883"),
        ('"mqtts://broker.example"', '"https://broker.example"', "broker.url", "write mqtts://HOST:8883"),
        ('"mqtts://broker.example"', '"mqtts://broker.example:0x1"', "broker.url", "write a port from 1 to 65535"),
        ('"mqtts://broker.example"', '"mqtts://u:p@broker.example"', "broker.url", "write only mqtts://HOST:PORT"),
        ('"mqtts://broker.example"', '"mqtt://127.0.0.1"', "broker.url", "write mqtts://…: mqtt:// uses none of"),
        ('"mqtts://broker.example"', "5", "broker.url", "write a text (here: 5)"),
        ('key = "tls/booth.key"', "", "broker", "write certificate and key together, or neither"),
        ('key = "tls/booth.key"', 'key = "tls"', "broker.key", "there is no file "),
        ('ca = "ca.pem"', 'ca = "other.pem"', "broker.ca", "there is no file "),
        ('id = "61-0007"', "", "booth.id", "missing; write a name of a-z, 0-9 and '-', 3 to 40 long"),
        ('id = "61-0007"', 'id = "ab"', "booth.id", "write a name of a-z"),
        ('area = "61"', 'area = "_all"', "booth.area", "write a short name of a-z"),
        ('area = "61"', "area = 61", "booth.area", "write a text (here: 61)"),
        ('"Europe/Paris"', '"../../etc/passwd"', "booth.timezone", "write a time zone of the IANA database"),
        ('"Europe/Paris"', '"/etc/localtime"', "booth.timezone", "write a time zone of the IANA database"),
        ('"Europe/Paris"', '"Europe"', "booth.timezone", "write a time zone of the IANA database"),
        ('"Europe/Paris"', '""', "booth.timezone", "write a time zone of the IANA database"),
        ('"Europe/Brussels"', '"CEST+2"', "hours.tz", "write a time zone of the IANA database"),
        ('"14:00-19:30"', '"14:00-25:00"', "hours.week.mon", "write spans such as 07:00-12:30"),
        ('"14:00-19:30"', '"14h-19h30"', "hours.week.mon", "write spans such as 07:00-12:30"),
        ('"14:00-19:30"', '"14:00-14:00"', "hours.week.mon", "write spans such as 07:00-12:30"),
        ('"14:00-19:30"', '"٠٧:٠٠-١٢:٣٠"', "hours.week.mon", "write spans such as 07:00-12:30"),
        ('"14:00-19:30"', "1400", "hours.week.mon[1]", "write a text (here: 1400)"),
        ("2026-12-25 =", "25-12-2026 =", "hours.exceptions", "write a date such as 2026-12-25 (here: '25-12-2026')"),
        ("2026-12-25 =", "2026-02-30 =", "hours.exceptions", "write a date such as 2026-12-25"),
        ("2026-12-25 =", "20261225 =", "hours.exceptions", "write a date such as 2026-12-25"),
        ("baud=38400", "baud=38401", "peripherals.receipt-printer.device", "baud is one of 1200, 2400"),
        ("?baud=38400", "?speed=9600", "peripherals.receipt-printer.device", "only baud can be set here, not speed"),
        ("serial:///dev", "serial://dev", "peripherals.receipt-printer.device", "write serial:///dev/serial/by-id/NAME"),
        ("poll_s = 5", "poll_s = 0.5", "peripherals.receipt-printer.poll_s", "write a number from 1 to 15"),
        ("poll_s = 5", "poll_s = nan", "peripherals.receipt-printer.poll_s", "write a number from 1 to 15"),
        ("poll_s = 5", f"poll_s = 1{'0' * 400}", "peripherals.receipt-printer.poll_s", "write a number"),
        ("poll_s = 5", "polls = 5", "peripherals.receipt-printer.polls", "unknown key; known here: absent_s, check_s, "),
        ("http://check.operator", "ftp://check.operator", "peripherals.network.check_url", "write http://HOST/PATH"),
        ('kind = "board"', 'kind = "booth"', "peripherals.board.kind", "unknown kind 'booth'"),
        ('kind = "board"', "kind = []", "peripherals.board.kind", "unknown kind []"),
        ("[peripherals.board]", '[peripherals."board "]', "peripherals.board ", "write the name in kebab-case"),
        ("[peripherals.board]", f"[peripherals.{'b' * 65}]", f"peripherals.{'b' * 65}", "write the name in kebab-case"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem_that_says_what_to_write(folder: Path, old: str, new: str, path: str, message: str) -> None:
    found = problems(folder, changed(old, new))
    assert list(found) == [path]
    assert found[path].startswith(message)


@pytest.mark.parametrize(
    ("key", "low", "high"), [("heartbeat_s", 5, 86400), ("telemetry_s", 5, 86400), ("alarm_after_s", 0, 3600)]
)
def test_reporting_has_the_contracts_bounds(folder: Path, key: str, low: int, high: int) -> None:
    for good in (low, high):
        assert getattr(read(folder, f"{SMALLEST}[reporting]\n{key} = {good}\n").reporting, key) == good
    for bad in (low - 1, high + 1, "true", "'60'", "1.5", "inf"):
        assert list(problems(folder, f"{SMALLEST}[reporting]\n{key} = {bad}\n")) == [f"reporting.{key}"]


def test_a_whole_number_may_be_written_with_a_point(folder: Path) -> None:
    settings = read(folder, changed("keepalive_s = 45", "keepalive_s = 45.0"))
    assert settings.broker.keepalive_s == 45


@pytest.mark.parametrize("missing", ["booth", "broker", "peripherals"])
def test_a_missing_table_is_said(folder: Path, missing: str) -> None:
    text = {
        "booth": '[broker]\nurl = "mqtt://127.0.0.1"\n[peripherals]\n',
        "broker": '[booth]\nid = "61-0007"\narea = "61"\n[peripherals]\n',
        "peripherals": SMALLEST.replace("[peripherals]\n", ""),
    }[missing]
    assert list(problems(folder, text)) == [missing]


def test_an_empty_file_misses_everything(folder: Path) -> None:
    assert set(problems(folder, "")) == {"booth", "broker", "peripherals"}


@pytest.mark.parametrize("table", ["booth", "broker", "peripherals", "hours", "services", "reporting"])
def test_a_table_that_is_none_is_one_problem(folder: Path, table: str) -> None:
    tables = {name: f"[{name}]\n" for name in ("hours", "services", "reporting", "peripherals")}
    tables["booth"] = '[booth]\nid = "61-0007"\narea = "61"\n'
    tables["broker"] = '[broker]\nurl = "mqtt://127.0.0.1"\n'
    del tables[table]
    assert list(problems(folder, f"{table} = 3\n" + "".join(tables.values()))) == [table]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[booth]\nid = "61-0007\n', "line 2"),
        ("[booth\n", "line 1"),
        ("[booth]\nid = 1\nid = 2\n", "line 3"),
        ("[booth]\n[booth]\n", "line 2"),
        (b"[booth]\nid = '\xff'\n", "position"),
        (f"[booth]\nid = {'9' * 5000}\n", "digits"),
        (f"a = {'[' * 100_000}", "recursion"),
    ],
)
def test_what_is_no_toml_is_said_with_its_place(folder: Path, text: str | bytes, place: str) -> None:
    found = problems(folder, text)
    assert list(found) == [""]
    assert found[""].startswith("this is not TOML: ")
    assert place in found[""]


def test_a_file_that_is_not_there_is_an_os_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(folder / "nowhere.toml", declared())


def test_a_service_can_be_taken_away_or_laid_over_key_by_key(folder: Path) -> None:
    settings = read(
        folder, SMALLEST + '[services]\nvisio = {offered = false}\nforms = {needs = ["document-printer", "network"]}\n'
    )
    assert "visio" not in settings.services
    assert [need.kind for need in settings.services["forms"].needs] == ["document-printer", "network"]
    assert settings.services["web"] == read(folder, SMALLEST).services["web"]


def test_a_mistake_in_a_service_is_one_problem(folder: Path) -> None:
    assert list(problems(folder, SMALLEST + '[services.web]\nneed = ["network"]\n')) == ["services.web.need"]
    assert list(problems(folder, SMALLEST + '[services.web]\nneeds = "network"\n')) == ["services.web.needs"]
    assert list(problems(folder, SMALLEST + "[services]\nweb = false\n")) == ["services.web"]


def test_the_light_the_checks_and_the_appointments_have_tables_of_their_own(folder: Path) -> None:
    text = SMALLEST + (
        '[light]\nred = "booth:red:status"\ngreen = "booth:green:status"\nblue = "booth:blue:status"\ndim_pct = 10\n'
        '[checks]\nevery_s = 3600\n[appointments]\nat = ["2026-12-01T09:30"]\n'
    )
    settings = read(folder, text)
    assert settings.light.dim_pct == 10
    assert settings.checks.every_s == 3600
    assert [moment.isoformat() for moment in settings.appointments] == ["2026-12-01T09:30:00"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[light]\nred = "a"\ngreen = "b"\n', "light"),
        ('[light]\nwhite = "a"\ngpio = true\n', "light"),
        ('[light]\nwhite = "../brightness"\n', "light.white"),
        ("[light]\ndim_pct = 0\n", "light.dim_pct"),
        ("[checks]\nevery_s = 1\n", "checks.every_s"),
        ('[ticket]\nphone = "call me"\n', "ticket.phone"),
        ('[ticket]\nprinter = "Laser"\n', "ticket.printer"),
        ('[appointments]\nat = ["tomorrow"]\n', "appointments.at"),
        ('[appointments]\nat = ["2026-12-01T09:30+01:00"]\n', "appointments.at"),
    ],
)
def test_mistakes_in_them_are_named(folder: Path, text: str, path: str) -> None:
    assert list(problems(folder, SMALLEST + text)) == [path]


def test_a_ticket_is_printed_on_a_receipt_printer_that_there_is(folder: Path) -> None:
    printer = '[peripherals.receipts]\nkind = "receipt-printer"\ndevice = "tcp://127.0.0.1:9100"\n'
    assert read(folder, SMALLEST + printer + '[ticket]\nprinter = "receipts"\n').ticket.printer == "receipts"
    assert list(problems(folder, SMALLEST + printer + '[ticket]\nprinter = "laser"\n')) == ["ticket.printer"]
