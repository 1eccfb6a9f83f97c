"""A stranger in the agent's place: `guest/hijacked.py` in its unit, as its user and in its sandbox."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.virtual_booth.booth import PYTHON, VirtualBooth
from tests.virtual_booth.inside import write

_DROP_IN: Final = "/run/systemd/system/booth-agent.service.d"
# All that the unit gives and takes stays; only the program is another one.
_IN_ITS_PLACE: Final = f"""
[Service]
Type=exec
ExecStart=
ExecStart={PYTHON} -B -m tests.virtual_booth.guest.hijacked %s
ExecStopPost=
WatchdogSec=0
Restart=no
StandardOutput=truncate:/run/hijacked.rows
"""
_LASTS_S: Final = 300.0


@contextmanager
def taken_over(booth: VirtualBooth, what: str) -> Iterator[list[dict[str, Any]]]:
    """Each attempt at `what` (acts, policy, update), its outcome, and whether something was gained."""
    booth.run(f"mkdir -p {_DROP_IN}")
    write(booth, f"{_DROP_IN}/hijacked.conf", _IN_ITS_PLACE % what)
    try:
        booth.run("systemctl daemon-reload && systemctl start booth-agent")
        booth.wait_for("systemctl is-active booth-agent | grep -v ^active", _LASTS_S)
        yield [json.loads(line) for line in booth.run("cat /run/hijacked.rows").splitlines()]
    finally:
        booth.run(f"systemctl stop booth-agent; rm -r {_DROP_IN}; systemctl daemon-reload")


def told(rows: list[dict[str, Any]]) -> str:
    """As a table."""
    return "\n".join(f"{'GAINED' if row['gained'] else '-':8}{row['attempt']:62}{row['outcome'][:160]}" for row in rows)
