"""`booth-agent run | check-config | probe | slip | light | demo`."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from agent import VERSION
from agent.contract.words import LightWord
from agent.places import config_file, data_in, runtime_dir_of, runtime_place, settings_of, state_dir_of

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status 0 done, 1 failed, 2 usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options))
    except KeyboardInterrupt:
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="booth-agent", description="The daemon inside a public-service booth.", formatter_class=_HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"booth-agent {VERSION}")
    acts = parser.add_subparsers(required=True, metavar="run | check-config | probe | slip | light | demo", parser_class=_Parser)

    run = acts.add_parser("run", help="the daemon")
    _add_config(run)
    run.add_argument("--state-dir", type=Path, metavar="DIR", help="what outlives a restart (else STATE_DIRECTORY)")
    _add_runtime_dir(run)
    run.add_argument("--verbose", action="store_true", help="log everything")
    run.set_defaults(act=_run)

    check = acts.add_parser("check-config", help="every problem of agent.toml, and what to write instead")
    _add_config(check)
    check.set_defaults(act=_check_config)

    probe = acts.add_parser("probe", help="one reading of each peripheral, without a broker")
    probe.add_argument("peripheral", nargs="?", metavar="PERIPHERAL", help="only this one")
    how = probe.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one object, or a list of them where no PERIPHERAL is named")
    how.add_argument("--slots", action="store_true", help="what belongs in slots.toml, as it is plugged together now")
    _add_config(probe)
    probe.add_argument("--state-dir", type=Path, metavar="DIR", help="whose disk to judge (else STATE_DIRECTORY)")
    _add_runtime_dir(probe)
    probe.set_defaults(act=_probe)

    slip = acts.add_parser("slip", help="print a few lines on a receipt printer: paper, accents, cutter")
    slip.add_argument("peripheral", nargs="?", metavar="PERIPHERAL", help="which one, where there are several")
    slip.add_argument("--code-pages", action="store_true", help="a line of French in each code page, to find the printer's own")
    slip.add_argument("--anyway", action="store_true", help="also where nothing tells whether a citizen is there: you see it")
    _add_config(slip)
    _add_runtime_dir(slip)
    slip.set_defaults(act=_slip)

    light = acts.add_parser("light", help="show a word on the booth's light: to try its wiring; `starting` stays")
    light.add_argument("word", choices=get_args(LightWord), metavar="WORD", help=", ".join(get_args(LightWord)))
    _add_config(light)
    _add_runtime_dir(light)
    light.set_defaults(act=_light)

    demo = acts.add_parser("demo", help="a whole simulated booth with a broker of its own")
    demo.add_argument(
        "--profile",
        default="everything",
        choices=("everything", "fonctionnaire-virtuel", "visio-guichet"),
        metavar="NAME",
        help="fonctionnaire-virtuel or visio-guichet; without it, everything that there is",
    )
    demo.add_argument("--script", type=Path, metavar="FILE", help="faults at times: lines of SECONDS ACTION")
    demo.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="end by itself, with status 0")
    demo.add_argument("--plain", action="store_true", help="lines instead of a screen")
    demo.add_argument("--actions", action="store_true", help="list what can be broken and repaired, and end")
    demo.set_defaults(act=_demo)
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """Of a fixed width: asking for the terminal's would load shutil and its compressors into the daemon."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=_HelpFormatter)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="agent.toml (else the one in CONFIGURATION_DIRECTORY)")


def _add_runtime_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-dir", type=Path, metavar="DIR", help="the session lock's place (else RUNTIME_DIRECTORY, /run/booth-agent)"
    )


def _run(options: argparse.Namespace) -> int:
    """Becomes the daemon, in a process that keeps nothing of this one: the parsers of the command line and of TOML, and what
    reads the operator's documents, are 0.7 MiB, and never used again."""
    from agent.overlay import with_accepted  # noqa: PLC0415 - for this alone

    local = data_in(options.config)
    state_dir = state_dir_of(options.state_dir)
    if local is None or state_dir is None:
        return EXIT_FAILED
    settings = os.memfd_create("settings", 0)  # 0: it is still open after exec
    data = {"local": local, "merged": with_accepted(local, state_dir)}
    with open(settings, "wb", closefd=False) as stream:
        stream.write(json.dumps(data, default=str).encode())  # str: a date of TOML's, which no option of ours is
    os.lseek(settings, 0, os.SEEK_SET)
    given = [str(value) if value else "" for value in (options.config, options.state_dir, options.runtime_dir, options.verbose)]
    # -I: neither the caller's folder nor PYTHON* variables choose what is imported. no_debug_ranges: tracebacks without
    # the little arrows, 0.2 MiB.
    return os.execv(sys.executable, [sys.executable, "-I", "-X", "no_debug_ranges", "-m", "agent.daemon", *given, str(settings)])  # noqa: S606


def _check_config(options: argparse.Namespace) -> int:
    settings = settings_of(options.config)
    if settings is None:
        return EXIT_FAILED
    names = ", ".join(item.name for item in settings.peripherals) or "no peripherals"
    print(f"{config_file(options.config)}: good. Booth {settings.booth.id} in {settings.booth.area}: {names}.")
    return EXIT_DONE


def _probe(options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - for this alone

    from agent import probe  # noqa: PLC0415

    settings = settings_of(options.config)
    if settings is None:
        return EXIT_FAILED
    names = [item.name for item in settings.peripherals]
    if options.peripheral not in (None, *names):
        print(f"booth-agent: no peripheral {options.peripheral!r}; there are {', '.join(names)}", file=sys.stderr)
        return EXIT_USAGE
    # By hand on a machine without the service's directories: some of its own, on the same disk, for as long as it takes.
    with TemporaryDirectory(prefix="booth-agent-", dir="/var/tmp") as name:
        state_dir = state_dir_of(options.state_dir, fallback=Path(name))
        runtime_dir = None if state_dir is None else runtime_dir_of(options.runtime_dir, Path(name))
        if state_dir is None or runtime_dir is None:
            return EXIT_FAILED
        readings = asyncio.run(probe.readings(settings, state_dir, runtime_dir, options.peripheral))
    if options.json:
        print(json.dumps(readings if options.peripheral is None else readings[0], ensure_ascii=False, indent=1))
    else:
        print(probe.slots(settings, readings) if options.slots else probe.table(readings))
    return EXIT_DONE


def _slip(options: argparse.Namespace) -> int:
    from agent import slip  # noqa: PLC0415 - for this alone
    from agent.devices.receipt_printing import NotPrinted  # noqa: PLC0415
    from agent.machine import Machine  # noqa: PLC0415

    settings = settings_of(options.config)
    if settings is None:
        return EXIT_FAILED
    printers = [item for item in settings.peripherals if item.peripheral.kind == slip.KIND]
    chosen = [item for item in printers if options.peripheral in (None, item.name)]
    if len(chosen) != 1:
        names = ", ".join(item.name for item in printers) or "none"
        print(f"booth-agent: name one receipt printer; there are {names}", file=sys.stderr)
        return EXIT_USAGE
    runtime_dir = runtime_place(options.runtime_dir)  # as it is: a lock in a directory of our own would say nothing
    how = {"code_pages": options.code_pages, "anyway": options.anyway}
    try:
        asyncio.run(slip.print_slip(chosen[0], settings.booth.id, runtime_dir, Machine().files, **how))
    except NotPrinted as error:
        print(f"booth-agent: no slip from {chosen[0].name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"A slip came out of {chosen[0].name}: look at it.")
    return EXIT_DONE


def _light(options: argparse.Namespace) -> int:
    from agent.machine import Machine, lamp_of  # noqa: PLC0415

    settings = settings_of(options.config)
    if settings is None:
        return EXIT_FAILED
    runtime_dir = runtime_dir_of(options.runtime_dir, Path("/"))
    lamp = None if runtime_dir is None else lamp_of(settings.light, Machine().files, runtime_dir)
    if lamp is None:
        print("booth-agent: no light is configured; write [light] in agent.toml", file=sys.stderr)
        return EXIT_FAILED
    try:
        asyncio.run(lamp.leave_starting() if options.word == "starting" else lamp.show(options.word, 100))
    except OSError as error:
        print(f"booth-agent: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


def _demo(options: argparse.Namespace) -> int:
    from agent.simulator import demo  # noqa: PLC0415 - never installed in a real booth

    return demo.main(options.script, options.for_s, options.profile, plain=options.plain, list_actions=options.actions)


if __name__ == "__main__":
    sys.exit(main())
