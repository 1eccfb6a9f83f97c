"""`booth-update`: root's part of updates, from outside both slots. `serve` for each question of the daemon's; `start` before each
start of the agent, while a version is on trial; `deadline` when its time is over; `install` by whoever installs; `show` what is
in use and under way.

`serve` reads a line of JSON (`agent.updates.words.Request`) and, where one comes with it, the envelope from its standard input,
and writes a line for each step, and a last one.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.contract.decode import encode
from agent.contract.typed import plain
from agent.privileged.asked import alone, read
from agent.privileged.machine import Machine
from agent.privileged.update_orders import RUN
from agent.privileged.updating import Updating
from agent.privileged.verdict import Ended
from agent.updates import kinds
from agent.updates.kind import Kind, NotGood
from agent.updates.words import Answer, Request


def main(arguments: Sequence[str] | None = None, known: Mapping[str, Kind] | None = None) -> int:
    """`known`: other kinds than those of `agent.updates`."""
    known = kinds() if known is None else known
    options = _parser(known).parse_args(arguments)
    machine = Machine(options.root)
    try:
        asked = read(Request) if options.act == "serve" else None  # before the lock: a client that is slow keeps nobody else
        with alone(machine.path(RUN)):
            _run(Updating(machine, known, told=_write), options, asked)
    except BlockingIOError:
        sys.stderr.write("booth-update: another one has been at work for longer, unpacking perhaps: ask again in some minutes\n")
        return 1
    except (Ended, NotGood, OSError) as error:
        sys.stderr.write(f"booth-update: {error}\n")
        return 1
    return 0


def _parser(known: Mapping[str, Kind]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="booth-update", description="Root's part of updates.")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where everything lies (/)")
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    for act, words in _ACTS.items():
        acts.add_parser(act, help=words)
    install = acts.add_parser("install", help="lay the files of a folder into a slot, which counts at once")
    install.add_argument("kind", choices=sorted(known))
    install.add_argument("folder", type=Path)
    install.add_argument("version")
    return parser


_ACTS = {
    "serve": "answer one question of the agent's",
    "start": "before a start of the agent: count the tries of what is on trial",
    "deadline": "go back, unless what is on trial has proved itself",
    "show": "what is in use and under way",
}


def _run(updating: Updating, options: argparse.Namespace, asked: tuple[Request, bytes] | None) -> None:
    if asked is not None:
        _write(answer(updating, *asked))
    elif options.act == "start":
        updating.start()
    elif options.act == "deadline":
        updating.deadline()
    elif options.act == "install":
        updating.install(options.kind, options.folder, options.version)
    else:
        sys.stdout.write(json.dumps(plain(updating.status()), indent=1) + "\n")
    updating.restart_agent()


def _write(said: Answer) -> None:
    with suppress(BrokenPipeError):  # whoever asked may be gone; what was begun is brought to its end
        os.write(sys.stdout.fileno(), encode(plain(said)) + b"\n")


def answer(updating: Updating, request: Request, message: bytes) -> Answer:
    if request.act == "take":
        return updating.take(request.layer, message)
    if request.act == "stage":
        return updating.stage(request.kind)
    if request.act == "switch":
        return updating.switch(request.kind)
    if request.act == "healthy":
        return updating.healthy(request.version, online=request.online)
    return updating.status()


if __name__ == "__main__":
    sys.exit(main())
