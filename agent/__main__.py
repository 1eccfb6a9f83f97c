"""`booth-agent run | check-config | probe | slip | light | demo`."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from agent import VERSION
from agent.contract.typed import Invalid
from agent.contract.words import LightWord
from agent.peripherals import declared
from agent.settings import Settings, load

_RUNTIME_DIR: Final = Path("/run/booth-agent")
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
    probe.add_argument("--json", action="store_true", help="one object, or a list of them where no PERIPHERAL is named")
    _add_config(probe)
    probe.add_argument("--state-dir", type=Path, metavar="DIR", help="whose disk to judge (else STATE_DIRECTORY)")
    _add_runtime_dir(probe)
    probe.set_defaults(act=_probe)

    slip = acts.add_parser("slip", help="print a few lines on a receipt printer: paper, accents, cutter")
    slip.add_argument("peripheral", nargs="?", metavar="PERIPHERAL", help="which one, where there are several")
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
    # Imported here: check-config and the tools need neither a broker nor a store.
    from agent.app import serve  # noqa: PLC0415
    from agent.system import process, service_manager  # noqa: PLC0415
    from agent.system.single import AlreadyRunning, SingleInstance  # noqa: PLC0415

    settings = _settings(options)
    state_dir = _directory(options.state_dir, "STATE_DIRECTORY", "/var/lib/booth-agent")
    if settings is None or state_dir is None or (runtime_dir := _runtime_dir(options, state_dir)) is None:
        return EXIT_FAILED
    process.use_one_malloc_arena()
    service_manager.log_to_journal_or_stderr(options.verbose)
    try:
        with SingleInstance(state_dir):
            asyncio.run(serve(settings, state_dir, runtime_dir))
    except AlreadyRunning as error:
        print(f"booth-agent: {error}", file=sys.stderr)
        return EXIT_FAILED
    except PermissionError as error:
        print(f"booth-agent: {error}; give --state-dir a directory that this user may write", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


def _check_config(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if settings is None:
        return EXIT_FAILED
    names = ", ".join(item.name for item in settings.peripherals) or "no peripherals"
    print(f"{_config_file(options)}: good. Booth {settings.booth.id} in {settings.booth.area}: {names}.")
    return EXIT_DONE


def _probe(options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - not for the daemon

    from agent import probe  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return EXIT_FAILED
    names = [item.name for item in settings.peripherals]
    if options.peripheral not in (None, *names):
        print(f"booth-agent: no peripheral {options.peripheral!r}; there are {', '.join(names)}", file=sys.stderr)
        return EXIT_USAGE
    # By hand on a machine without the service's directories: some of its own, on the same disk, for as long as it takes.
    with TemporaryDirectory(prefix="booth-agent-", dir="/var/tmp") as name:
        state_dir = _directory(options.state_dir, "STATE_DIRECTORY", "/var/lib/booth-agent", fallback=Path(name))
        runtime_dir = None if state_dir is None else _runtime_dir(options, Path(name))
        if state_dir is None or runtime_dir is None:
            return EXIT_FAILED
        readings = asyncio.run(probe.readings(settings, state_dir, runtime_dir, options.peripheral))
    if options.json:
        print(json.dumps(readings if options.peripheral is None else readings[0], ensure_ascii=False, indent=1))
    else:
        print(probe.table(readings))
    return EXIT_DONE


def _slip(options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - not for the daemon

    from agent import slip  # noqa: PLC0415
    from agent.machine import Machine  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return EXIT_FAILED
    printers = [item for item in settings.peripherals if item.peripheral.kind == slip.KIND]
    chosen = [item for item in printers if options.peripheral in (None, item.name)]
    if len(chosen) != 1:
        names = ", ".join(item.name for item in printers) or "none"
        print(f"booth-agent: name one receipt printer; there are {names}", file=sys.stderr)
        return EXIT_USAGE
    with TemporaryDirectory(prefix="booth-agent-") as name:
        runtime_dir = _runtime_dir(options, Path(name))
        if runtime_dir is None:
            return EXIT_FAILED
        try:
            asyncio.run(slip.print_slip(chosen[0], settings.booth.id, runtime_dir, Machine().files))
        except slip.NotPrinted as error:
            print(f"booth-agent: no slip from {chosen[0].name}: {error}", file=sys.stderr)
            return EXIT_FAILED
    print(f"A slip was sent to {chosen[0].name}: look at it.")
    return EXIT_DONE


def _light(options: argparse.Namespace) -> int:
    from agent.machine import Machine, lamp_of  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return EXIT_FAILED
    runtime_dir = _runtime_dir(options, Path("/"))
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


def _config_file(options: argparse.Namespace) -> Path:
    if options.config is not None:
        return Path(options.config)
    return Path(os.environ.get("CONFIGURATION_DIRECTORY", "/etc/booth-agent")) / "agent.toml"


def _settings(options: argparse.Namespace) -> Settings | None:
    """The settings, or None after every problem was printed."""
    file = _config_file(options)
    try:
        return load(file, declared())
    except OSError as error:
        print(f"booth-agent: {file}: {error.strerror}; name the file with --config FILE", file=sys.stderr)
    except Invalid as error:
        for problem in error.problems:
            print(f"{file}: {problem}", file=sys.stderr)
        count = len(error.problems)
        print(f"booth-agent: {count} problem{'s' if count > 1 else ''} in {file}", file=sys.stderr)
    return None


def _runtime_dir(options: argparse.Namespace, otherwise: Path) -> Path | None:
    """Where the session lock is; `otherwise` for a program run by hand on a machine without systemd's directory."""
    if options.runtime_dir is None and "RUNTIME_DIRECTORY" not in os.environ and not _RUNTIME_DIR.is_dir():
        return otherwise
    return _directory(options.runtime_dir, "RUNTIME_DIRECTORY", str(_RUNTIME_DIR))


def _directory(option: Path | None, variable: str, default: str, fallback: Path | None = None) -> Path | None:
    directory = option or Path(os.environ.get(variable, default))
    if directory.is_dir():
        return directory
    if option is not None:
        try:
            directory.mkdir(parents=True, mode=0o750)
        except OSError as error:
            print(f"booth-agent: cannot make {directory}: {error.strerror}", file=sys.stderr)
            return None
        return directory
    if fallback is None:
        print(f"booth-agent: there is no directory {directory}; name one with --state-dir DIR", file=sys.stderr)
    return fallback


if __name__ == "__main__":
    sys.exit(main())
