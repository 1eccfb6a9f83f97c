"""Every command of docs/fleet-configuration.md, in its order, against a real broker and a booth that answers."""

import asyncio
import re
import subprocess
from pathlib import Path

from agent.documents.trust import next_trust, read_trust
from tests.boothctl.desk import PASSPHRASE, Desk
from tests.boothctl.program import environment, say
from tests.boothctl.stand_in import KeepsLayers, booths, reported
from tests.world import BIN, world

PAGE = Path(__file__).parents[2] / "docs" / "fleet-configuration.md"


async def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert script.count("boothctl ") >= 20
    booth = KeepsLayers()
    async with world(tmp_path) as w, booths(w, b61_0007=booth):
        say(w, "61-0007", "config/reported", reported()).wait_for_publish(20)
        env = environment(tmp_path) | {
            "PATH": f"{BIN}:/usr/bin:/bin", "BOOTHCTL_PASSPHRASE": PASSPHRASE,
            "BOOTHCTL_BROKER": f"mqtt://127.0.0.1:{w.broker.port}",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "sh", "-eux", "-c", script,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=tmp_path,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        said = out.decode()
        assert "published: config for booth/v1/61/_all, revision 1, epoch 2: reporting, light" in said
        lines = [line.split() for line in said.splitlines()]
        assert ["~", "reporting.heartbeat_s", "3600", "→", "1800"] in lines
        assert said.count("-  light  ") == 1
        assert re.search(r"^-  light  .*→  \(local or default\)$", said, re.MULTILINE), "it falls below the area"
        assert ["reporting.heartbeat_s", "1800", "area"] in lines
        window = '[{"from": "2026-12-01T08:00:00.000Z", "until": "2026-12-01T12:00:00.000Z"}]'
        assert ["~", "consoles.ssh", "[]", "→", *window.split()] in lines
        assert ["~", "firewall.ssh_from", "[]", "→", '["192.0.2.0/24"]'] in lines
        assert said.count("61-0007  applied\n") == 5
        assert booth.lost == {"config": {"light"}, "policy": set()}, "light by name; who opens a window takes nothing away"
        assert booth.given["policy"]["consoles"].value["ssh"]
        desk = Desk(tmp_path)
        second, _ = next_trust(read_trust(desk.read("trust.json")), desk.read("trust-2.dsse"))
        third, _ = next_trust(second, desk.read("trust-3.dsse"))
        assert (third.version, third.epoch, len(third.keys)) == (3, 2, 2)
        assert {"booth/v1/_all/_all/trust/desired", "booth/v1/61/61-0007/policy/desired"} <= w.observer.retained.keys()
        desk.said += [said, err.decode()]
        desk.assert_no_key_was_told()
