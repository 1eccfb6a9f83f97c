"""What the tests do inside a virtual booth with what is installed there: run the agent, hear what it says, ask root for acts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.virtual_booth.booth import VirtualBooth

TOPICS: Final = "booth/v1/61/61-0001"
STARTS_S: Final = 90.0  # Python, systemd and a film, on an emulated processor
JOURNAL: Final = "journalctl -u booth-agent -o cat --no-pager | tail -20"
AS_AGENT: Final = "runuser -u booth-agent --"

# Every file of the disk but for logs, caches and what is temporary.
FILES: Final = "find / -xdev ! -path '/tmp/*' ! -path '/var/tmp/*' ! -path '/var/log/*' ! -path '/var/cache/*' | sort"

# Where this machine differs from what was installed.
SLOW: Final = "/etc/systemd/system/booth-acts.slice.d"

_HEARD: Final = "/run/heard"
_ASK: Final = "/usr/bin/python3 -I /repository/tests/virtual_booth/guest/ask.py"


def write(booth: VirtualBooth, path: str, text: str) -> None:
    """A file of root's in the guest, with these lines."""
    booth.run(f"cat > {path} <<'END'\n{text.strip()}\nEND")


# --- the agent ---


def start_broker(booth: VirtualBooth) -> None:
    booth.run("systemd-run --quiet --unit broker mosquitto -p 1883")
    booth.wait_for("mosquitto_pub -t ready -n")


@contextmanager
def agent(booth: VirtualBooth, settings: str, slots: str = "", *, remembers: bool = False) -> Iterator[None]:
    """The agent's unit, with a broker at which somebody hears all that is said. `remembers`: what it knew before."""
    if not remembers:
        booth.run("rm -rf /var/lib/booth-agent")
    write(booth, "/etc/booth-agent/agent.toml", settings)
    write(booth, "/etc/booth-agent/slots.toml", slots)
    start_broker(booth)
    listen = f"mosquitto_sub -V mqttv5 -h 127.0.0.1 -v -t {TOPICS}/#"
    booth.run(f"systemd-run --quiet --unit heard --property StandardOutput=truncate:{_HEARD} {listen}")
    try:
        booth.run("systemctl start booth-agent", STARTS_S)
        yield
    finally:
        booth.run("systemctl stop booth-agent heard broker || true", 60)  # the power may have been cut meanwhile


def said(booth: VirtualBooth, topic: str) -> str:
    """What is retained there."""
    return booth.run(f"mosquitto_sub -W 10 -C 1 -t {TOPICS}/{topic}").strip()


def until_said(booth: VirtualBooth, topic: str, pattern: str, timeout_s: float = STARTS_S) -> None:
    """Wait until something that fits is retained there."""
    booth.wait_for(f"mosquitto_sub -W 5 -C 1 -t {TOPICS}/{topic} | grep -E '{pattern}' || {{ {JOURNAL}; false; }}", timeout_s)


def heard(booth: VirtualBooth, topic: str) -> list[str]:
    """All that was said there since the broker started, oldest first; `(null)` is an empty message."""
    lines = booth.run(f"grep '^{TOPICS}/{topic} ' {_HEARD} || true").splitlines()
    return [line.partition(" ")[2] for line in lines]


def until_heard(booth: VirtualBooth, topic: str, pattern: str, timeout_s: float = STARTS_S) -> None:
    """Wait until something that fits was said there, if only for a moment."""
    booth.wait_for(f"grep -E '^{TOPICS}/{topic} .*{pattern}' {_HEARD} || {{ {JOURNAL}; false; }}", timeout_s)


def remedies(booth: VirtualBooth) -> list[tuple[str, str]]:
    """Each remedy that was tried since the broker started, and what came of it."""
    told = (json.loads(event)["data"] for event in heard(booth, "event/heal"))
    return [(data["remedy"], data["outcome"]) for data in told]


# --- root's acts ---


def ask(booth: VirtualBooth, act: str, slot: str) -> dict[str, Any]:
    """Root's verdict, asked for as the agent does."""
    return asks(booth, (act, slot))[0]


def asks(booth: VirtualBooth, *requests: tuple[str, str]) -> list[dict[str, Any]]:
    """The same for several acts at once."""
    words = " ".join(f"{act} {slot}" for act, slot in requests)
    verdicts = [json.loads(line) for line in booth.run(f"{AS_AGENT} {_ASK} {words}", 120).splitlines()]
    assert [(verdict["act"], verdict["slot"]) for verdict in verdicts] == list(requests), verdicts
    return verdicts


def done(verdict: dict[str, Any]) -> bool:
    """Whether it says so in both of its words."""
    assert verdict["done"] is (verdict["code"] == "done"), verdict
    return bool(verdict["done"])
