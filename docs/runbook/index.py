"""The runbook's index, from the declarations: `python docs/runbook/index.py [--check]`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral
from agent.ticket.phone_codes import phone_code

HERE = Path(__file__).parent
INDEX = HERE / "README.md"

INTRODUCTION = """\
# Runbook

One page for each thing that can be wrong with a booth. An alarm names its page: its `runbook` is `<kind>/<code>`.
`make runbook` writes this file from the declarations in `agent/peripherals/`; the pages are written by hand.

What holds for all of them:

- A *finding* stands in `health/<peripheral>` as soon as it is believed. It becomes an *alarm* when it has lasted
  `alarm_after_s` (30 s unless configured). The alarm goes with the finding where the shopkeeper fixes it, and 120 s after
  it elsewhere.
- *On the phone* is what a shopkeeper reads from her ticket ([ticket.md](../ticket.md)), and never changes its meaning.
- The severity below is the usual one. Where the facts decide otherwise, the page says so.
- `auto` means that the booth heals it, or that it passes without a person. What was tried stands in the alarm's `tried`, what is
  being tried in `health`'s `healing`; a finding whose remedies were all in vain names `technician` instead of `auto`
  ([healing.md](../healing.md), and the tables of remedies in [peripherals.md](../peripherals.md)).
- The examples name each peripheral like its kind. Another name in `agent.toml` goes into the topic, into
  `booth-agent probe NAME` and into `BOOTH_PERIPHERAL=NAME`.
- `$B` is the booth's topic: `B=booth/v1/61/61-0007`. `mosquitto_sub` takes the broker from `~/.config/mosquitto_sub`, one
  option a line (`-h broker.example`, `-p 8883`, `--cafile …`, `--cert …`, `--key …`).
- `booth-agent probe` judges at once, without debounce. It needs the right to read what the agent reads: run it as root or
  as the agent's user.
"""


def index(kinds: list[Peripheral]) -> str:
    """The text of README.md."""
    return "\n".join([INTRODUCTION, *(line for kind in kinds for line in _table(kind))])


def page_problems(kinds: list[Peripheral], folder: Path = HERE) -> list[str]:
    """Pages that are missing, and pages of codes that nobody declares."""
    wanted = {f"{kind.kind}/{code}.md" for kind in kinds for code in kind.finding_kinds}
    found = {str(page.relative_to(folder)) for page in folder.glob("*/*.md")}
    missing = [f"docs/runbook/{name} is missing: write it, then run `make runbook`" for name in sorted(wanted - found)]
    unknown = [f"docs/runbook/{name}: no peripheral declares this code; delete the page" for name in sorted(found - wanted)]
    return missing + unknown


def main(arguments: list[str]) -> int:
    """Write README.md, or with --check only compare. Exit status 0 good, 1 something is to be done, 2 usage."""
    if arguments not in ([], ["--check"]):
        print("usage: python docs/runbook/index.py [--check]", file=sys.stderr)
        return 2
    kinds = [kind for _, kind in sorted(declared().items())]
    text = index(kinds)
    problems = page_problems(kinds)
    if not arguments:
        INDEX.write_text(text, encoding="utf-8")
    elif not INDEX.is_file() or INDEX.read_text(encoding="utf-8") != text:
        problems.insert(0, "docs/runbook/README.md is not what the declarations say: run `make runbook` and commit it")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _table(kind: Peripheral) -> Iterator[str]:
    yield f"## {kind.kind}"
    yield ""
    yield "| code | severity | who fixes it | French | English | on the phone |"
    yield "|---|---|---|---|---|---|"
    for code, finding in kind.finding_kinds.items():
        said = phone_code(kind.kind, code) or ""
        cells = (f"[{code}]({kind.kind}/{code}.md)", finding.severity, finding.fix_by, finding.text.fr, finding.text.en, said)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
