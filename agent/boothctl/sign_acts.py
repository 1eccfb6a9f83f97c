"""`boothctl sign`: a document in its envelope, and a second person's signature on one."""

import argparse
import asyncio
from pathlib import Path

from agent.boothctl.connection import broker, broker_options
from agent.boothctl.envelopes import KINDS, Terms, checked, checked_envelope, in_words, read_input, statement, with_signatures
from agent.boothctl.key_files import read_key
from agent.boothctl.revisions import settle
from agent.boothctl.terminal import EXIT_DONE, Failed, note, read_file, refused, usage, write
from agent.boothctl.words import audience, moment, revision
from agent.contract.documents import Refusal
from agent.contract.envelope import open_envelope
from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey, seal


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    parser = acts.add_parser(
        "sign", parents=[broker_options(), json_option], help="sign a document",
        usage="boothctl sign KIND FILE --key KEY … --audience AUDIENCE [--rev N --epoch N] [options]\n"
        "       boothctl sign KIND FILE --key KEY … --statement [options]\n"
        "       boothctl sign --add ENVELOPE --key KEY … [-o OUT]",
    )  # fmt: skip
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the doc: its sections, in JSON")
    parser.add_argument(
        "--key", action="append", required=True, type=Path, metavar="KEY", help="a signing key, once for each signer"
    )
    parser.add_argument("--audience", type=audience, metavar="AUDIENCE", help="fleet, 61, 61-0007, or booth/v1/…")
    parser.add_argument("--statement", action="store_true", help="FILE is the whole statement, and is signed byte for byte")
    parser.add_argument("--add", type=Path, metavar="ENVELOPE", help="sign what others have signed; it is shown first")
    parser.add_argument("-o", dest="out", type=Path, metavar="OUT", help="else standard output")
    term_options(parser)
    parser.set_defaults(act=_sign)


def term_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rev", type=revision, metavar="N|auto", help="auto, the default, asks the broker for the next one")
    parser.add_argument("--epoch", type=revision, metavar="N|auto", help="that of the trust list; auto asks the broker")
    parser.add_argument("--not-after", type=moment, metavar="TIME", help="2026-12-31T22:00:00Z; refused from then on")
    parser.add_argument("--confirm-s", type=int, metavar="SECONDS", help="a booth goes back unless it reaches its broker by then")


def has_terms(options: argparse.Namespace) -> bool:
    return any(value is not None for value in (options.rev, options.epoch, options.not_after, options.confirm_s))


def _sign(options: argparse.Namespace) -> int:
    try:
        message, words = _second(options) if options.add is not None else _first(options)
    except Refusal as refusal:
        raise refused(refusal, options.add or options.file) from refusal
    signers = [id_ for id_, _ in open_envelope(message).signatures]
    text = f"{words}; signed by {', '.join(f'{id_[:12]}…' for id_ in signers)}"
    write(options, message, text, {"document": words, "signed_by": signers})
    return EXIT_DONE


def _second(options: argparse.Namespace) -> tuple[bytes, str]:
    if options.kind is not None or options.statement or options.audience is not None or has_terms(options):
        raise usage("--add takes an envelope as it is: only --key and -o go with it")
    envelope = read_input(options.add).envelope
    if envelope is None:
        raise Failed(f"{options.add}: no envelope; sign it first")
    _, words = checked_envelope(envelope)
    note(f"to be signed: {words}")
    return with_signatures(envelope, keys_of(options)), words


def _first(options: argparse.Namespace) -> tuple[bytes, str]:
    kind = options.kind
    if options.file is None:
        raise usage(f"sign what? Give KIND, one of {', '.join(KINDS)}, and FILE, or --add ENVELOPE")
    if options.statement:
        if options.audience is not None or has_terms(options):
            raise usage("--statement has its own audience, rev, epoch, not_after and confirm_s")
        payload = read_file(options.file)
    else:
        payload = _new_statement(options, kind)
    document = checked(kind, payload)
    return seal(payload_type(kind), payload, keys_of(options)), in_words(kind, document)


def _new_statement(options: argparse.Namespace, kind: str) -> bytes:
    if options.audience is None:
        raise usage("for whom? Give --audience: fleet, 61, 61-0007, or booth/v1/…")
    given = read_input(options.file)
    if given.envelope is not None:
        raise usage(f"{options.file} is signed already; boothctl sign --add adds a signature")
    rev, epoch = options.rev, options.epoch
    if rev is None or epoch is None:
        rev, epoch = asyncio.run(settle(options, broker(options), kind, options.audience))
    return statement(given.data, Terms(options.audience, rev, epoch, options.not_after, options.confirm_s))


def keys_of(options: argparse.Namespace) -> list[SigningKey]:
    keys = {key.id: key for key in (read_key(file) for file in options.key)}
    if len(keys) < len(options.key):
        raise usage("the same key twice is one signature")
    return list(keys.values())
