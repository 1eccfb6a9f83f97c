"""Every command of docs/commands.md, in its order, against a real agent; and the page against the declarations."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from agent.contract.command import FINAL
from agent.verbs import declared
from tests.boothctl.program import environment
from tests.boothctl.test_cmd import key_file, url
from tests.commands.technician import ended, signed_command
from tests.commands.test_engine import booth
from tests.documents.operator import Operator
from tests.test_reference import script
from tests.world import BIN, World

DOCS = Path(__file__).parents[2] / "docs"
VERBS = script(DOCS / "verbs.py")
CODE = "K4QW-7MHA"


async def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    names, *blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "commands.md").read_text(), re.MULTILINE | re.DOTALL)
    assert sum(block.count("boothctl ") + block.count("mosquitto_") for block in blocks) >= 11
    operator = Operator()
    said = ""
    async with booth(tmp_path) as (w, agent):
        key_file(w, "tech.pem", operator.first)
        names = re.sub(r'^here=".*"$', f'here="-V mqttv5 -h 127.0.0.1 -p {w.broker.port}"', names, flags=re.MULTILINE)
        for block in blocks:
            code = agent.ticket_code.new() if CODE in block else ""
            said += await _run(w, f"{names}\n{block.replace(CODE, code)}")
            await w.until(lambda: _all_ended(w), "what was asked has ended")
            if code:
                assert (await ended(w, "maintenance", "phone-2"))["state"] == "succeeded"
                await signed_command(w, operator, "maintenance", args={"on": False})
        states = {(m.json["verb"], m.json["state"]) for m in w.observer.messages if m.topic.endswith("/status")}
    done = {verb for verb, state in states if state == "succeeded"}
    assert done == {"locate", "probe", "ticket", "maintenance", "self-test", "heal", "diagnostics"}
    assert {state for _, state in states & {(verb, state) for verb in declared() for state in FINAL}} == {"succeeded"}
    assert re.search('"id":"phone-1".*"state":"succeeded"', said), "who asked saw the end of it"
    assert "\nNothing is wrong.\n" in said
    assert "written to booth.json.gz\n" in said
    assert '"booth":"61-0007"' in said, "the beginning of the bundle"


async def _run(w: World, commands: str) -> str:
    env = environment(w.folder) | {"PATH": f"{BIN}:/usr/bin:/bin", "BOOTHCTL_BROKER": url(w)}
    process = await asyncio.create_subprocess_exec(
        "sh", "-eux", "-c", re.sub("^mosquitto_sub .* -W .*", r"\g<0> || [ $? -eq 27 ]", commands, flags=re.MULTILINE),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=w.folder,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()


def _all_ended(w: World) -> bool:
    """As many as were asked for have a final state."""
    asked = sum(1 for m in w.observer.messages if m.topic.endswith("/req"))
    final = {m.topic for m in w.observer.messages if m.topic.endswith("/status") and m.json["state"] in FINAL}
    return len(final) >= asked


def test_the_page_is_what_the_declarations_say() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "verbs.py"), "--check"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stale_or_missing_page_says_what_to_run(tmp_path: Path) -> None:
    assert VERBS.main([], tmp_path) == 0
    assert VERBS.main(["--check"], tmp_path) == 0
    file = tmp_path / "commands.md"
    file.write_text(file.read_text().replace("14400", "86400"))
    assert VERBS.main(["--check"], tmp_path) == 1
    file.unlink()
    assert VERBS.main(["--check"], tmp_path) == 1
    assert VERBS.main(["--chekc"], tmp_path) == 2


def test_every_verb_argument_and_reason_stands_on_the_page_and_every_link_leads_somewhere() -> None:
    text = VERBS.page(declared().values())
    for name, verb in declared().items():
        section = text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        for argument in verb.schema()["properties"]:
            assert f"| `{argument}` |" in section, name
        assert f"| deadline | {verb.deadline_s:g} s |" in section
        assert ("`not-signed`" in section) == verb.technician
    assert "| `duration_s` | whole number | 0 to 14400 | `3600` |" in text
    assert "| `what` | text | one of agent, cups, network, browser | required |" in text
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (DOCS / target).is_file(), target
