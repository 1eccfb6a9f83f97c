"""`boothctl config|policy|update push`: publishes a document for its audience, and tells what each booth answers."""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.boothctl import trust_lists
from agent.boothctl.connection import DEFAULT_WAIT_S, broker_options, connect, online, say
from agent.boothctl.envelopes import Input, Terms, checked, checked_envelope, in_words, read_input, statement
from agent.boothctl.following import Answer, Following
from agent.boothctl.gather import Listener
from agent.boothctl.on_broker import drop_options, read_lying, refuse_drops
from agent.boothctl.revisions import hear, refuse_old, settle
from agent.boothctl.sign_acts import has_terms, keys_of, term_options
from agent.boothctl.terminal import EXIT_DONE, EXIT_FAILED, EXIT_NO_ANSWER, Failed, note, read_file, refused, show, usage
from agent.boothctl.words import audience
from agent.contract.documents import Document, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.contract.messages import Incoming, Message
from agent.contract.typed import build
from agent.contract.words import printable
from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey, seal
from agent.documents.trust import signed_by
from agent.system.broker import BrokerAddress
from agent.updates import kinds


def add_to(about: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser, kind: str) -> None:
    parser = about.add_parser("push", parents=[broker_options(wait_s=None), json_option], help="publish a document, retained")
    parser.add_argument("file", type=Path, metavar="FILE", help="an envelope, or a doc to be signed with --key")
    publishing_options(parser)
    drop_options(parser)
    parser.set_defaults(act=online(_push), kind=kind)


def publishing_options(parser: argparse.ArgumentParser) -> None:
    """For whom, by whose keys, and whether the answers are awaited."""
    parser.add_argument("audience", type=audience, metavar="AUDIENCE", help="fleet, 61, 61-0007, or booth/v1/…")
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="KEY", help="a signing key, once for each signer"
    )
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="follow what the booths that are online make of it")
    term_options(parser)


def keeping_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", type=Path, metavar="FILE", help="a trust list or its envelope: whose other sections stay; else those of --key"
    )
    parser.add_argument(
        "--keep-rev", action="append", default=[], type=int, metavar="N",
        help="the other sections of revision N stay, though booths have seen a newer one",
    )  # fmt: skip


async def _push(options: argparse.Namespace, address: BrokerAddress) -> int:
    follows = options.wait is not None
    options.wait = options.wait if follows else DEFAULT_WAIT_S
    try:
        message, document = await _message(options, address)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    return await _publish(options, address, message, document, list(document.doc), follows=follows)


async def push_section(options: argparse.Namespace, address: BrokerAddress, name: str, section: dict[str, Any]) -> int:
    """Sign and publish one section of a document of `options.kind`; the others that lie there for this audience stay. `options`:
    those of `push`, without its file. Raises `Failed`."""
    follows = options.wait is not None
    options.wait = options.wait if follows else DEFAULT_WAIT_S
    keys = keys_of(options)
    try:
        doc = await with_section(options, address, name, section, keys)
        rev, epoch = await settle(options, address, options.kind, options.audience)
        payload = statement(doc, Terms(options.audience, rev, epoch, options.not_after, options.confirm_s))
        document = checked(options.kind, payload)
    except Refusal as refusal:
        raise refused(refusal, name) from refusal
    options.file, options.drop, options.drop_all = name, [], False
    message = seal(payload_type(options.kind), payload, keys)
    return await _publish(options, address, message, document, [name], follows=follows)


async def with_section(
    options: argparse.Namespace, address: BrokerAddress, name: str, section: dict[str, Any], keys: Sequence[SigningKey] = ()
) -> dict[str, Any]:
    """The doc that lies for an audience, with another section of this name. The others stay where one of `keys` has signed them,
    or who `--trust` names, and booths have seen nothing newer. Raises `Failed`, and `Refusal` for what lies there and no booth
    takes."""
    heard = await hear(address, options.kind, options.audience, options.wait)
    if not heard.desired:
        return {name: section}
    before = read_lying(options.kind, options.audience.topic, heard.desired)
    stays = " and ".join(other for other in before.doc if other != name)
    if stays:
        if not signed_for(options, keys)(heard.desired):
            raise not_signed(options.kind, f"{stays} of revision {before.rev}")
        newest = (heard.seen_rev, options.epoch or heard.epoch())
        refuse_old((before.rev, before.epoch), newest, stays, options.audience, options.keep_rev)
        note(f"stays, and is signed anew: {stays} of revision {before.rev}, epoch {before.epoch}, of {before.issued_at}")
    return {**before.doc, name: section}


def signed_for(options: argparse.Namespace, keys: Sequence[SigningKey]) -> Callable[[bytes], bool]:
    """Whether a message is signed by one of `keys`, or by those whom `--trust` names. Raises `Failed`."""
    trusted, threshold = {key.id: key.public for key in keys}, 1
    if options.trust is not None:
        trust, _ = trust_lists.load(read_file(options.trust))
        trusted, threshold = trust.keys_for(options.kind), getattr(trust.thresholds, options.kind)

    def is_signed(message: bytes) -> bool:
        try:
            return bool(signed_by(open_envelope(message), trusted, threshold))
        except Refusal:
            return False

    return is_signed


def not_signed(kind: str, stays: str) -> Failed:
    """Else a broker that was taken over gets whatever it likes signed, by laying it there."""
    return Failed(
        f"{stays}, which lies there too, would be signed anew by you, and none of those whom you named has signed it",
        f"say with --trust FILE who may have, or take it away with boothctl {kind} push … --drop",
    )


async def _publish(
    options: argparse.Namespace,
    address: BrokerAddress,
    message: bytes,
    document: Document,
    names: Sequence[str],
    *,
    follows: bool,
) -> int:
    """`names`: the sections that are followed."""
    words = in_words(options.kind, document)
    topic = options.audience.desired(options.kind)
    following = Following(options.kind, options.audience)
    lying: list[bytes] = []

    def take(heard: Incoming) -> None:
        if heard.topic == topic:
            lying.append(heard.payload)
        else:
            following.take(heard)

    async with Listener(address, [topic, *(following.topics() if follows else ())], take) as listener:
        await connect(listener, address, options.wait)
        await listener.settled(options.wait)
        refuse_drops(options, document, lying[-1] if lying else None)
        following.published(document.rev, _versions(options.kind, document, names))
        await say(listener, address, Message(topic, message, retain=True), options.wait)
        if not options.json:
            print(f"published: {words}", flush=True)
        answers = await _answers(options, following) if follows else {}
    if options.json:
        booths = {booth: _as_json(answer) for booth, answer in answers.items()}
        show(options, {"topic": topic, "rev": document.rev, "epoch": document.epoch, "booths": booths}, str)
    return _status(answers) if follows else EXIT_DONE


def _versions(kind: str, document: Document, names: Sequence[str]) -> dict[str, str]:
    """What an update wants of each section, as booths call it in their reports."""
    declared = kinds() if kind == "update" else {}
    return {name: declared[name].version(build(declared[name].section, document.doc[name])) for name in names if name in declared}


async def _message(options: argparse.Namespace, address: BrokerAddress) -> tuple[bytes, Document]:
    given: Input = read_input(options.file)
    if given.envelope is None:
        if not options.key:
            raise usage(f"{options.file} is not signed: give --key, or sign it first")
        keys = keys_of(options)
        rev, epoch = await settle(options, address, options.kind, options.audience)
        payload = statement(given.data, Terms(options.audience, rev, epoch, options.not_after, options.confirm_s))
        document = checked(options.kind, payload)
        return seal(payload_type(options.kind), payload, keys), document
    if options.key or has_terms(options):
        raise usage(f"{options.file} is signed already, and is published as it is")
    kind, _ = checked_envelope(given.envelope)
    if kind != options.kind:
        raise Failed(f"{options.file}: a {kind} document, and no {options.kind}")
    document = read_document(given.envelope.payload)
    if document.audience != options.audience.topic:
        raise Failed(f"{options.file}: it is for {document.audience}; at {options.audience.topic} every booth refuses it")
    return read_file(options.file).strip(), document


async def _answers(options: argparse.Namespace, following: Following) -> dict[str, Answer | None]:
    """What each booth that is online says, as it says it; None for those that do not by the deadline."""
    answers: dict[str, Answer | None] = dict.fromkeys(sorted(following.waiting))
    try:
        async with asyncio.timeout(options.wait):
            while None in answers.values():
                answer = await following.next()
                answers[answer.booth] = answer
                if not options.json:
                    print(_line(answer), flush=True)
    except TimeoutError:
        for booth in (booth for booth, answer in answers.items() if answer is None and not options.json):
            print(f"{booth}  no answer within {options.wait:g} s", flush=True)
    if following.away:
        note(f"not online, so it is read later: {', '.join(following.away)}")
    if not answers:
        note("no booth of this audience is online")
    return answers


def _line(answer: Answer) -> str:
    reasons = "; ".join((*((answer.outcome,) if answer.outcome else ()), *(_reason(error) for error in answer.errors)))
    return printable(f"{answer.booth}  {answer.status}{f'  {reasons}' if reasons else ''}", 600)


def _reason(error: dict[str, Any]) -> str:
    return f"{error['code']} {error['path']}: {error['message']}" if error["path"] else f"{error['code']}: {error['message']}"


def _as_json(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    outcome = {"outcome": answer.outcome} if answer.outcome else {}
    return {"status": answer.status, "errors": list(answer.errors)} | outcome


def _status(answers: dict[str, Answer | None]) -> int:
    said = [answer.status for answer in answers.values() if answer is not None]
    if any(status != "applied" for status in said):
        return EXIT_FAILED
    return EXIT_NO_ANSWER if len(said) < len(answers) or not answers else EXIT_DONE
