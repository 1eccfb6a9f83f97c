"""`boothctl tour`: who is visited, and what is brought."""

from pathlib import Path
from typing import Any

from tests.boothctl.program import WHEN, boothctl, say, state
from tests.world import World, world

EARLIER = "2026-10-01T08:00:00.000Z"
CLOSED = {"tz": "Europe/Paris", "week": {day: [] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}, "exceptions": {}}


def alarm(
    peripheral: str, code: str, fix_by: str, part: str | None, severity: str = "fault", since: str = WHEN
) -> dict[str, Any]:
    return {
        "code": code, "peripheral": peripheral, "severity": severity, "fix_by": fix_by, "services": [], "since": since,
        "clock": "synced", "tried": [], "part": part, "runbook": f"{peripheral}/{code}",
        "text": {"fr": "En panne.", "en": "Out of order."},
    }  # fmt: skip


def ill(w: World, booth: str, *alarms: dict[str, Any]) -> None:
    say(w, booth, "state", state("online"))
    for one in alarms:
        say(w, booth, f"alarm/{one['peripheral']}/{one['code']}", one)


async def test_a_tour_has_each_booth_that_needs_somebody_and_the_parts_for_all_of_them(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        cutter = alarm("receipt-printer", "cutter-error", "technician", "cutter", since=EARLIER)
        worn = alarm("board", "storage-worn", "technician", "SD card", "warning")
        damaged = alarm("booth", "store-damaged", "technician", "SD card", "warning")
        paper = alarm("receipt-printer", "media-empty", "shopkeeper", "thermal roll")
        ill(w, "61-0001", worn, damaged)
        ill(w, "61-0002", cutter, paper)
        ill(w, "61-0003", paper)
        ill(w, "61-0004", alarm("network", "tls-failure", "remote", None))
        say(w, "61-0005", "state", state("lost"))
        say(w, "61-0006", "state", state("lost"))
        say(w, "61-0006", "meta", meta_of_a_closed_booth())
        ill(w, "72-0001", worn)
        ill(w, "72-0002", worn)
        say(w, "72-0002", "meta", meta_of_a_closed_booth())
        say(w, "72-0002", "state", state("lost"))
        url = f"mqtt://127.0.0.1:{w.broker.port}"
        tour = (await boothctl(tmp_path, "tour", "--area", "61", "--json", "--broker", url)).json
        assert [stop["booth"] for stop in tour["stops"]] == ["61-0002", "61-0005", "61-0001"], "faults first, then the oldest"
        assert tour["parts"] == {"SD card": 1, "cutter": 1, "thermal roll": 1}, "one for each booth that needs it"
        assert [one["phone_code"] for one in tour["stops"][0]["alarms"]] == ["T14", "T11"]
        assert (tour["stops"][1]["dark"], tour["stops"][1]["alarms"]) == (True, [])

        page = await boothctl(tmp_path, "tour", "--broker", url)
        assert (page.status, page.err) == (0, "")
        lines = [line.split() for line in page.out.splitlines()]
        assert lines[1] == ["61", "61-0002", "online", EARLIER, "receipt-printer/cutter-error", "T14", "technician", "cutter"]
        assert lines[2][1:] == ["receipt-printer/media-empty", "T11", "shopkeeper", "thermal", "roll"]
        assert page.out.splitlines()[-1] == "5 to visit; bring 3 × SD card, 1 × cutter, 1 × thermal roll"
        assert (await boothctl(tmp_path, "tour", "--area", "99", "--broker", url)).out == "no visit is due\n"
        w.observer.problems.clear()


def meta_of_a_closed_booth() -> dict[str, Any]:
    """By its hours it is open on no day."""
    return {
        "agent": "0.1.0", "contract": 1, "board": {"model": None, "os": None, "kernel": "6.1", "architecture": "x86_64"},
        "hours": CLOSED, "peripherals": {}, "capabilities": {"commands": {}, "policy_rules": [], "light": []},
    }  # fmt: skip
