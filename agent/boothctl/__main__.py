"""`boothctl`. Exit status 0 done, 1 refused or failed, 2 usage, 3 no answer."""

import argparse
import os
import sys
from collections.abc import Sequence

from agent import VERSION
from agent.boothctl import (
    command_acts,
    completion,
    forms_acts,
    key_acts,
    push_acts,
    report_acts,
    seeing,
    sign_acts,
    tour,
    update_acts,
    why,
)
from agent.boothctl.connection import CONFIG_FILE, come_later
from agent.boothctl.terminal import EXIT_DONE, EXIT_FAILED, Failed, note


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options))
    except Failed as failed:
        for line in failed.lines:
            note(line)
        return failed.status
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boothctl",
        description="See booths and tell them what to be, over MQTT. The broker is taken from the options, else BOOTHCTL_BROKER, "
        f"else url, ca, certificate and key in {CONFIG_FILE}.",
    )
    parser.add_argument("--version", action="version", version=f"boothctl {VERSION}")
    come_later(parser, "ACT")
    json_option = argparse.ArgumentParser(add_help=False)
    json_option.add_argument("--json", action="store_true")
    acts = parser.add_subparsers(required=True, metavar="ACT")
    seeing.add_to(acts, json_option)
    why.add_to(acts, json_option)
    tour.add_to(acts, json_option)
    command_acts.add_to(acts, json_option)
    for kind in ("config", "policy"):
        about = acts.add_parser(kind, help=f"the {kind} of booths").add_subparsers(required=True, metavar="ACT")
        report_acts.add_to(about, json_option, kind)
        push_acts.add_to(about, json_option, kind)
    update_acts.add_to(acts, json_option)
    forms_acts.add_to(acts, json_option)
    sign_acts.add_to(acts, json_option)
    key_acts.add_to(acts, json_option)
    completion.add_to(acts, parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
