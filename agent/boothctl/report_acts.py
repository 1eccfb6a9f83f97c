"""`boothctl config|policy show | diff | origin`: what a booth made of its documents, and what another would change."""

import argparse
from pathlib import Path
from typing import Any

from agent.boothctl import report_pages
from agent.boothctl.connection import broker_options, online
from agent.boothctl.envelopes import read_input
from agent.boothctl.local_checks import problems_of
from agent.boothctl.reports import Difference, differences, gather, join, leaves
from agent.boothctl.terminal import EXIT_DONE, Failed, refused, show
from agent.boothctl.words import booth_id
from agent.contract.documents import Refusal, invalid
from agent.system.broker import BrokerAddress


def add_to(about: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser, kind: str) -> None:
    common = [broker_options(), json_option]
    show_ = about.add_parser("show", parents=common, help="what a booth reports of it")
    diff = about.add_parser("diff", parents=common, help="what a document would change at a booth")
    origin = about.add_parser("origin", parents=common, help="which layer gave each value")
    for parser, act in ((show_, _show), (diff, _diff), (origin, _origin)):
        parser.add_argument("booth", type=booth_id, metavar="BOOTH")
        parser.set_defaults(act=online(act), kind=kind)
    diff.add_argument("file", type=Path, metavar="FILE", help="a doc, or its envelope")
    origin.add_argument("section", nargs="?", metavar="SECTION", help="such as hours, or peripherals.scanner")


async def _show(options: argparse.Namespace, address: BrokerAddress) -> int:
    report = await gather(options, address, options.kind)
    show(options, report.reported, lambda: report_pages.report_page(report))
    return EXIT_DONE


async def _diff(options: argparse.Namespace, address: BrokerAddress) -> int:
    try:
        doc = read_input(options.file).doc()
        if problems := problems_of(options.kind, doc):
            raise invalid(problems)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    report = await gather(options, address, options.kind)
    found = differences(report, doc)
    show(options, [_as_json(one) for one in found], lambda: report_pages.difference_page(found, report.below))
    return EXIT_DONE


def _as_json(one: Difference) -> dict[str, Any]:
    return {"path": one.path} | ({"now": one.now} if one.has_now else {}) | ({"then": one.then} if one.has_then else {})


async def _origin(options: argparse.Namespace, address: BrokerAddress) -> int:
    report = await gather(options, address, options.kind)
    wanted = options.section
    parts = {
        path: part for path, part in report.parts().items() if wanted is None or path == wanted or path.startswith(f"{wanted}.")
    }
    if wanted is not None and not parts:
        raise Failed(f"the booth reports no section {wanted!r}")
    values = [
        {"path": join(path, key), "value": value, "from": part.origin(key, report.below)}
        for path, part in parts.items()
        for key, value in leaves(part.value).items()
    ]
    show(options, values, lambda: report_pages.origin_page(report, parts))
    return EXIT_DONE
