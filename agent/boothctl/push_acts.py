"""`boothctl config|policy push`: publishes a document for its audience, and tells what each booth answers."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from agent.boothctl.connection import DEFAULT_WAIT_S, broker_options, connect, online, say
from agent.boothctl.envelopes import Input, Terms, checked, checked_envelope, in_words, read_input, statement
from agent.boothctl.following import Answer, Following
from agent.boothctl.gather import Listener
from agent.boothctl.on_broker import drop_options, refuse_drops
from agent.boothctl.revisions import settle
from agent.boothctl.sign_acts import has_terms, keys_of, term_options
from agent.boothctl.terminal import EXIT_DONE, EXIT_FAILED, EXIT_NO_ANSWER, Failed, note, read_file, refused, show, usage
from agent.boothctl.words import audience
from agent.contract.documents import Document, Refusal, read_document
from agent.contract.messages import Incoming, Message
from agent.contract.words import printable
from agent.documents.judge import payload_type
from agent.documents.signatures import seal
from agent.system.broker import BrokerAddress


def add_to(about: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser, kind: str) -> None:
    parser = about.add_parser("push", parents=[broker_options(wait_s=None), json_option], help="publish a document, retained")
    parser.add_argument("file", type=Path, metavar="FILE", help="an envelope, or a doc to be signed with --key")
    parser.add_argument("audience", type=audience, metavar="AUDIENCE", help="fleet, 61, 61-0007, or booth/v1/…")
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="KEY", help="a signing key, once for each signer"
    )
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="follow what the booths that are online make of it")
    drop_options(parser)
    term_options(parser)
    parser.set_defaults(act=online(_push), kind=kind)


async def _push(options: argparse.Namespace, address: BrokerAddress) -> int:
    follows = options.wait is not None
    options.wait = options.wait if follows else DEFAULT_WAIT_S
    try:
        message, document = await _message(options, address)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
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
        following.published(document.rev)
        await say(listener, address, Message(topic, message, retain=True), options.wait)
        if not options.json:
            print(f"published: {words}", flush=True)
        answers = await _answers(options, following) if follows else {}
    if options.json:
        booths = {booth: _as_json(answer) for booth, answer in answers.items()}
        show(options, {"topic": topic, "rev": document.rev, "epoch": document.epoch, "booths": booths}, str)
    return _status(answers) if follows else EXIT_DONE


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
    reasons = "; ".join(_reason(error) for error in answer.errors)
    return printable(f"{answer.booth}  {answer.status}{f'  {reasons}' if reasons else ''}", 600)


def _reason(error: dict[str, Any]) -> str:
    return f"{error['code']} {error['path']}: {error['message']}" if error["path"] else f"{error['code']}: {error['message']}"


def _as_json(answer: Answer | None) -> dict[str, Any] | None:
    return None if answer is None else {"status": answer.status, "errors": list(answer.errors)}


def _status(answers: dict[str, Answer | None]) -> int:
    said = [answer.status for answer in answers.values() if answer is not None]
    if any(status != "applied" for status in said):
        return EXIT_FAILED
    return EXIT_NO_ANSWER if len(said) < len(answers) or not answers else EXIT_DONE
