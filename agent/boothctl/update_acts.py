"""`boothctl update`: the versions of booths: shown, published, and rolled out in waves."""

import argparse
import json
from pathlib import Path
from typing import get_args

from agent.boothctl import push_acts, report_acts, rollout_acts
from agent.boothctl.connection import DEFAULT_WAIT_S, broker_options, online
from agent.boothctl.envelopes import Terms, checked, in_words, statement
from agent.boothctl.push_acts import keeping_options, publishing_options, push_section, with_section
from agent.boothctl.release_files import agent_section, read_bundle
from agent.boothctl.revisions import settle
from agent.boothctl.rollout_sight import KIND
from agent.boothctl.terminal import EXIT_DONE, refused, usage, write
from agent.contract.documents import Refusal
from agent.contract.update import Window
from agent.system.broker import BrokerAddress

_SECTION = "agent"


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    about = acts.add_parser(KIND, help="the versions of booths").add_subparsers(required=True, metavar="ACT")
    report_acts.add_to(about, json_option, KIND)
    push_acts.add_to(about, json_option, KIND)
    publish = about.add_parser(
        "publish", parents=[broker_options(wait_s=None), json_option], help="a release, from its bundles",
        usage="boothctl update publish BUNDLE … AUDIENCE --url URL --key KEY [--wait SECONDS] [options]\n"
        "       boothctl update publish BUNDLE … AUDIENCE --url URL [--statement] -o FILE [options]",
    )  # fmt: skip
    publish.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="booth-agent-VERSION-ARCH.tar of make bundle")
    publishing_options(publish)
    keeping_options(publish)
    publish.add_argument("--url", required=True, metavar="URL", help="the folder from which booths fetch these files")
    publish.add_argument("--window", choices=get_args(Window), help="when it may be applied; without one, whenever it suits")
    publish.add_argument(
        "-o", dest="out", type=Path, metavar="FILE", help="publish nothing: write the doc, to be signed elsewhere"
    )
    publish.add_argument("--statement", action="store_true", help="write the whole statement, for boothctl sign --statement")
    publish.set_defaults(act=online(_publish), kind=KIND)
    rollout_acts.add_to(about, json_option)


async def _publish(options: argparse.Namespace, address: BrokerAddress) -> int:
    section = agent_section([read_bundle(file) for file in options.bundles], options.url, options.window)
    if options.out is None:
        if options.statement:
            raise usage("--statement is for -o FILE: what is published is signed")
        if not options.key:
            raise usage("give --key, or -o FILE to sign it elsewhere")
        return await push_section(options, address, _SECTION, section)
    if options.key:
        raise usage("-o writes what is to be signed elsewhere: no --key goes with it")
    options.wait = options.wait or DEFAULT_WAIT_S
    try:
        doc = await with_section(options, address, _SECTION, section)
        rev, epoch = await settle(options, address, KIND, options.audience)
        payload = statement(doc, Terms(options.audience, rev, epoch, options.not_after, options.confirm_s))
        words = in_words(KIND, checked(KIND, payload))
    except Refusal as refusal:
        raise refused(refusal, _SECTION) from refusal
    data = payload if options.statement else json.dumps(doc, indent=1).encode()
    write(options, data, f"to be signed: {words}", {"document": words, "doc": doc})
    return EXIT_DONE
