"""`boothctl config|policy|update show | diff | origin | get`: what a booth made of its documents, what another would change, and
what lies on the broker."""

import argparse
import json
from pathlib import Path
from typing import Any

from agent.boothctl import report_pages, trust_lists
from agent.boothctl.connection import broker_options, hear_retained, online
from agent.boothctl.envelopes import Input, in_words, read_input
from agent.boothctl.local_checks import problems_of
from agent.boothctl.on_broker import read_lying
from agent.boothctl.reports import Difference, Report, differences, gather, hidden, join, leaves
from agent.boothctl.terminal import EXIT_DONE, EXIT_NO_ANSWER, Failed, note, read_file, refused, show, usage
from agent.boothctl.words import audience, booth_id
from agent.contract.documents import LayerName, Refusal, invalid, read_document
from agent.documents.judge import judge
from agent.rules.layers import LAYERS, audience_of
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
    diff.add_argument(
        "--audience", type=audience, metavar="AUDIENCE", help="whose document it shall be; the booth's own, or the envelope's"
    )
    origin.add_argument("section", nargs="*", metavar="SECTION", help="such as hours, or peripherals.scanner")
    get = about.add_parser("get", parents=common, help="the doc that lies on the broker, to be amended and pushed")
    get.add_argument("audience", type=audience, metavar="AUDIENCE", help="fleet, 61, 61-0007, or booth/v1/…")
    get.add_argument("--trust", type=Path, metavar="FILE", help="a trust list or its envelope: check the signatures by it")
    get.set_defaults(act=online(_get), kind=kind)


async def _show(options: argparse.Namespace, address: BrokerAddress) -> int:
    report = await gather(options, address, options.kind)
    show(options, report.reported, lambda: report_pages.report_page(report))
    return EXIT_DONE


async def _diff(options: argparse.Namespace, address: BrokerAddress) -> int:
    try:
        given = read_input(options.file)
        doc = given.doc()
        if problems := problems_of(options.kind, doc):
            raise invalid(problems)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    wanted = _wanted(options, given)
    report = await gather(options, address, options.kind)
    layer = _layer(report, wanted)
    found = differences(report, doc, layer)
    for path, above in hidden(report, doc, layer).items():
        note(f"{path} stays as it is: the {above}'s document gives it")
    show(options, [_as_json(one) for one in found], lambda: report_pages.difference_page(found, report.below))
    return EXIT_DONE


def _wanted(options: argparse.Namespace, given: Input) -> str | None:
    """For whom the document shall be; None where nothing says it."""
    said = None if options.audience is None else str(options.audience.topic)
    if given.envelope is None:
        return said
    signed = read_document(given.envelope.payload).audience
    if said not in (None, signed):
        raise usage(f"{options.file} is signed for {signed}")
    return signed


def _layer(report: Report, wanted: str | None) -> LayerName:
    if wanted is None:
        return "booth"
    for layer in LAYERS:
        if audience_of(layer, report.address.area, report.address.booth) == wanted:
            return layer
    raise Failed(f"a document for {wanted} does not reach {report.address.root}")


def _as_json(one: Difference) -> dict[str, Any]:
    now = {"now": one.now} if one.has_now else {}
    then = {"then": one.then} if one.has_then else {}
    return {"path": one.path} | now | then | ({} if one.falls_to is None else {"falls_to": one.falls_to})


async def _origin(options: argparse.Namespace, address: BrokerAddress) -> int:
    report = await gather(options, address, options.kind)
    wanted = options.section
    all_parts = report.parts()
    if unknown := [name for name in wanted if not any(_is_in(path, name) for path in all_parts)]:
        raise Failed(*(f"the booth reports no section {name!r}" for name in unknown))
    parts = {path: part for path, part in all_parts.items() if not wanted or any(_is_in(path, name) for name in wanted)}
    values = [
        {"path": join(path, key), "value": value, "from": part.origin(key, report.below)}
        for path, part in parts.items()
        for key, value in leaves(part.value).items()
    ]
    show(options, values, lambda: report_pages.origin_page(report, parts))
    return EXIT_DONE


def _is_in(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


async def _get(options: argparse.Namespace, address: BrokerAddress) -> int:
    topic = options.audience.desired(options.kind)
    lying: list[bytes] = []
    try:
        trust = None if options.trust is None else trust_lists.load(read_file(options.trust))[0]
    except Refusal as refusal:
        raise refused(refusal, options.trust) from refusal
    await hear_retained(address, [topic], lambda message: lying.append(message.payload), options.wait)
    if not lying or not lying[-1]:
        raise Failed(f"nothing lies at {topic}", status=EXIT_NO_ANSWER)
    try:
        document = read_lying(options.kind, options.audience.topic, lying[-1])
        if trust is not None:
            # Whether it can still be taken anew does not matter: it is what the next one replaces.
            judge(lying[-1], options.kind, options.audience.topic, trust, None, document.issued_at)
    except Refusal as refusal:
        raise refused(refusal, topic) from refusal
    note(f"{in_words(options.kind, document)}; {'signatures not looked at' if trust is None else 'well signed'}")
    print(json.dumps(document.doc, indent=1))
    return EXIT_DONE
