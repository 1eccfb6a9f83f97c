"""`boothctl key trust new | next | show | push`: the list of keys that booths trust, made and signed without a network."""

import argparse
import re
from pathlib import Path
from typing import Any

from agent.boothctl import trust_lists
from agent.boothctl.connection import broker_options, online, publish
from agent.boothctl.key_files import public_key, read_key
from agent.boothctl.terminal import EXIT_DONE, Failed, note, read_file, refused, show, write
from agent.boothctl.words import audience, uses
from agent.contract.documents import Refusal
from agent.contract.typed import plain
from agent.documents.signatures import key_id, seal
from agent.documents.trust import PAYLOAD_TYPE, Thresholds, Trust, Use, next_trust, signed_by
from agent.system.broker import BrokerAddress

_THRESHOLDS = tuple(plain(Thresholds()))


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    about = acts.add_parser("trust", help="the list of keys that booths trust")
    trust = about.add_subparsers(required=True, metavar="ACT")
    pub = "in base64, or a file with it or with the private key"

    new = trust.add_parser("new", parents=[json_option], help="the first list, for every booth's trust.json")
    new.add_argument("--root", action="append", default=[], required=True, metavar="PUB", help=f"a root's public key: {pub}")
    new.add_argument("--root-threshold", type=int, required=True, metavar="N", help="how many roots sign the next list")
    new.add_argument("--key", action="append", default=[], type=_key, metavar="PUB:USE,…", help="a key and what it may sign")
    new.set_defaults(act=_new)

    next_ = trust.add_parser("next", parents=[json_option], help="the list that follows, in an envelope for trust push")
    next_.add_argument("file", type=Path, metavar="FILE", help="the list in force, or its envelope")
    next_.add_argument("--add-key", action="append", default=[], type=_key, dest="key", metavar="PUB:USE,…")
    next_.add_argument("--remove-key", action="append", default=[], metavar="ID", help="its beginning, or the key, will do")
    next_.add_argument("--add-root", action="append", default=[], dest="root", metavar="PUB", help=pub)
    next_.add_argument("--remove-root", action="append", default=[], metavar="ID", help="its beginning, or the key, will do")
    next_.add_argument("--root-threshold", type=int, metavar="N")
    next_.add_argument("--new-epoch", action="store_true", help="end the epoch: every document signed so far is void")
    next_.add_argument("--sign-with", action="append", default=[], required=True, type=Path, metavar="ROOT", help="a key file")
    next_.add_argument("--partial", action="store_true", help="other roots sign it later, with boothctl sign --add")
    next_.set_defaults(act=_next)
    for parser in (new, next_):
        parser.add_argument(
            "--threshold", action="append", default=[], type=_threshold, metavar="WHAT=N",
            help=f"how many sign: {', '.join(_THRESHOLDS)}",
        )  # fmt: skip
        parser.add_argument("-o", dest="out", type=Path, metavar="OUT", help="else standard output")

    show_ = trust.add_parser("show", parents=[json_option], help="a list or its envelope in words")
    show_.add_argument("file", type=Path, metavar="FILE")
    show_.add_argument("--after", type=Path, metavar="FILE", help="check that a booth with this list takes it")
    show_.set_defaults(act=_show)

    push = trust.add_parser("push", parents=[broker_options(), json_option], help="publish the envelope, retained")
    push.add_argument("file", type=Path, metavar="FILE")
    push.add_argument("audience", type=audience, metavar="AUDIENCE", help="fleet, 61, 61-0007, or booth/v1/…")
    push.set_defaults(act=online(_push))


def _key(text: str) -> tuple[str, list[Use]]:
    public, colon, names = text.rpartition(":")
    if not colon:
        raise argparse.ArgumentTypeError("write PUB:USE,…, such as operator.pem:config,policy")
    return public, uses(names)


def _id(text: str) -> str:
    """A key id or its beginning, as it is; the id of a key."""
    return text if re.fullmatch("[0-9a-f]{1,64}", text) else key_id(public_key(text))


def _threshold(text: str) -> tuple[str, int]:
    what, _, number = text.partition("=")
    if what not in _THRESHOLDS or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"write {'=N, '.join(_THRESHOLDS)}=N")
    return what, int(number)


def _changes(options: argparse.Namespace, **more: Any) -> trust_lists.Changes:
    return trust_lists.Changes(
        roots=[public_key(text) for text in options.root],
        keys={public_key(text): names for text, names in options.key},
        root_threshold=options.root_threshold,
        thresholds=dict(options.threshold),
        **more,
    )


def _new(options: argparse.Namespace) -> int:
    try:
        trust = trust_lists.first(_changes(options))
    except Refusal as refusal:
        raise refused(refusal) from refusal
    _warn(trust)
    write(options, trust_lists.as_file(trust), trust_lists.in_words(trust), {"version": 1, "epoch": 1})
    return EXIT_DONE


def _next(options: argparse.Namespace) -> int:
    try:
        current, _ = trust_lists.load(read_file(options.file))
        gone = {"gone_roots": list(map(_id, options.remove_root)), "gone_keys": list(map(_id, options.remove_key))}
        trust = trust_lists.following(current, _changes(options, new_epoch=options.new_epoch, **gone))
        payload = trust_lists.as_file(trust)
        signers = [read_key(file) for file in options.sign_with]
        roots = current.root_keys() | trust.root_keys()
        for file, key in zip(options.sign_with, signers, strict=True):
            if key.id not in roots:
                raise Failed(f"{file}: key {key.id[:12]}… is a root of neither list")
        message = seal(PAYLOAD_TYPE, payload, signers)
        if not options.partial:
            next_trust(current, message)
    except Refusal as refusal:
        if refusal.code == "not-enough-signatures":
            note("the roots of the list in force sign, and those of the new one; --partial writes what other roots shall sign")
        raise refused(refusal) from refusal
    _warn(trust)
    about = {"version": trust.version, "epoch": trust.epoch, "signed_by": [key.id for key in signers]}
    write(options, message, trust_lists.in_words(trust), about)
    return EXIT_DONE


def _show(options: argparse.Namespace) -> int:
    try:
        data = read_file(options.file)
        trust, envelope = trust_lists.load(data)
        if options.after is not None:
            next_trust(trust_lists.load(read_file(options.after))[0], data)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    signers = None if envelope is None else trust_lists.who_signed(envelope, trust.root_keys())
    show(options, plain(trust) | {"signed_by": signers}, lambda: trust_lists.page(trust, signers))
    return EXIT_DONE


async def _push(options: argparse.Namespace, address: BrokerAddress) -> int:
    data = read_file(options.file)
    try:
        trust, envelope = trust_lists.load(data)
        if envelope is None:
            raise Failed(f"{options.file}: a list without signatures; make its envelope with boothctl key trust next")
        signed_by(envelope, trust.root_keys(), trust.roots.threshold)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    topic = options.audience.desired("trust")
    await publish(address, topic, data.strip(), options.wait)
    published = {"topic": topic, "version": trust.version, "epoch": trust.epoch}
    show(options, published, lambda: f"trust list, version {trust.version}, published at {topic}")
    return EXIT_DONE


def _warn(trust: Trust) -> None:
    for line in trust_lists.never_reached(trust):
        note(line)
