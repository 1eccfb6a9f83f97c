"""`boothctl cmd`: asks a booth to do something, and tells what becomes of it."""

import argparse
import asyncio
import secrets
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.boothctl import command_pages, verb_arguments
from agent.boothctl.asking import Asking
from agent.boothctl.bundle_file import BundleFile, default_file
from agent.boothctl.connection import DEFAULT_WAIT_S, broker_options, come_later, connect, online, say
from agent.boothctl.gather import Listener
from agent.boothctl.progress import Progress
from agent.boothctl.sign_acts import keys_of
from agent.boothctl.terminal import EXIT_DONE, EXIT_FAILED, EXIT_NO_ANSWER, EXIT_USAGE, Failed, note, show
from agent.boothctl.words import booth_id, seconds, timestamp
from agent.contract.command import FINAL, PAYLOAD_TYPE, CommandStatus, Request, SignedRequest
from agent.contract.decode import encode
from agent.contract.messages import Message
from agent.contract.typed import Invalid, build, plain
from agent.contract.words import printable
from agent.documents.signatures import seal
from agent.system.broker import BrokerAddress
from agent.verbs import declared
from agent.verbs.declaration import Verb

# Then the broker drops what no booth has fetched: a command must not be done next week, when the booth is switched on.
GOOD_FOR_S: Final = 60
_MARGIN_S: Final = 15.0  # for the way there and back
_NOBODY_SUBSCRIBED: Final = 0x10


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    cmd = acts.add_parser(
        "cmd", help="ask a booth to do something, and follow it",
        epilog="What a verb takes: boothctl cmd BOOTH VERB --help. What it does and returns: docs/commands.md.",
    )  # fmt: skip
    come_later(cmd, "BOOTH VERB")
    cmd.add_argument("booth", type=booth_id, metavar="BOOTH")
    verbs: Any = cmd.add_subparsers(required=True, metavar="VERB", parser_class=verb_arguments.Interleaved)
    for verb in declared().values():
        parents = [broker_options(wait_s=None), json_option]
        parser = verbs.add_parser(
            verb.name, parents=parents, help=verb.does, description=f"{verb.name}: {verb.does}. {_rights(verb)}"
        )
        verb_arguments.add_to(parser, verb.args)
        _add_common(parser, verb)
        parser.set_defaults(act=online(_cmd), verb=verb, code=None)


def _add_common(parser: argparse.ArgumentParser, verb: Verb) -> None:
    within_s = verb.deadline_s + _MARGIN_S
    parser.add_argument("--wait", type=seconds, metavar="SECONDS", help=f"for the end of it (default {within_s:g}, and --wait-s)")
    parser.add_argument("--wait-s", type=int, default=0, metavar="SECONDS", help="it may wait so long for a citizen to finish")
    parser.add_argument("--id", metavar="ID", help="of the command; the same one again runs nothing, and says what became of it")
    parser.add_argument("--by", metavar="NAME", help="who asks, for the booth's journal")
    key_help = "sign it, once for each signer" if verb.technician else "sign it, which it does not need"
    parser.add_argument("--sign", action="append", default=[], type=Path, dest="key", metavar="KEYFILE", help=key_help)
    if verb.technician:
        parser.add_argument("--code", metavar="CODE", help="the one-time code of the booth's ticket")
    if verb.name == "diagnostics":
        parser.add_argument(
            "-o", dest="out", type=Path, metavar="FILE", help="else BOOTH-diagnostics-TIME.json.gz; never replaced"
        )


def _rights(verb: Verb) -> str:
    signed = "It has to be signed, or to carry the code of the booth's ticket. " if verb.technician else ""
    return signed + ("Never while a citizen uses the booth." if verb.idle_only else "")


async def _cmd(options: argparse.Namespace, address: BrokerAddress) -> int:
    verb: Verb = options.verb
    id_ = options.id or "c-" + secrets.token_hex(6)
    payload = _payload(options, verb, id_)
    progress = Progress()
    bundle = BundleFile(options.out or default_file(options.booth), progress) if verb.name == "diagnostics" else None
    asking = Asking(options.booth, verb.name, id_, signed=bool(options.key), on_chunk=bundle.take if bundle else None)
    wait_s = verb.deadline_s + options.wait_s + _MARGIN_S if options.wait is None else options.wait
    first_s = DEFAULT_WAIT_S if options.wait is None else options.wait
    async with Listener(address, asking.topics(), asking.take) as listener:
        try:
            await connect(listener, address, first_s)
            await listener.settled(first_s)
        except asyncio.CancelledError as interrupted:
            raise Failed("nothing was sent", status=EXIT_NO_ANSWER) from interrupted
        place, state = asking.place()
        if (known := asking.known) is not None:
            note(f"there was a command {id_} at {known.at}, {known.verb} {known.state}: nothing runs twice under one id")
        if state.state in ("asleep", "lost"):
            note(f"{options.booth} is {state.state}: the command is good for {GOOD_FOR_S} s, should it come back")
        asking.sent()
        request = Message(f"{place.root}/cmd/{verb.name}/req", payload, expiry_s=GOOD_FOR_S)
        if await say(listener, address, request, first_s) == _NOBODY_SUBSCRIBED:
            note(f"the broker says that nobody listens at {request.topic} now")
        try:
            final = await _follow(asking, progress, wait_s)
        finally:
            progress.close()
        if final is None:
            return EXIT_NO_ANSWER
        return await _tell(options, final, bundle, progress)


def _payload(options: argparse.Namespace, verb: Verb, id_: str) -> bytes:
    """The request as it is published. Raises `Failed`, as wrong usage, with everything that is wrong."""
    args = verb_arguments.given(options, verb.args)
    now = datetime.now(UTC)
    data: dict[str, Any] = {"id": id_, "args": args, "wait_s": options.wait_s, "by": options.by}
    if verb.technician or options.key:
        until = now + timedelta(seconds=GOOD_FOR_S + options.wait_s)
        data |= {"issued_at": timestamp(now), "expires_at": timestamp(until)}
    data |= {"booth": options.booth, "verb": verb.name} if options.key else {"code": options.code}
    wrong = _misfits(verb.args, args) + _misfits(SignedRequest if options.key else Request, data)
    if options.key and options.code is not None:
        wrong.append("--sign or --code: one of them is enough")
    if verb.technician and not options.key and options.code is None:
        wrong.append(
            f"{verb.name} is for a technician: sign it with --sign KEYFILE, or give --code CODE, the code of the ticket that "
            f"boothctl cmd {options.booth} ticket prints in the booth"
        )
    if wrong:
        raise Failed(*wrong, status=EXIT_USAGE)
    if not options.key:
        return encode({key: value for key, value in plain(build(Request, data)).items() if value not in (None, {}, 0)})
    try:
        keys = keys_of(options)
    except Failed as failed:
        raise Failed(*failed.lines, status=EXIT_USAGE) from failed
    return seal(PAYLOAD_TYPE, encode(plain(build(SignedRequest, data))), keys)


def _misfits(type_: type, data: dict[str, Any]) -> list[str]:
    try:
        build(type_, data)
    except Invalid as error:
        return [str(problem) for problem in error.problems]
    return []


async def _follow(asking: Asking, progress: Progress, wait_s: float) -> CommandStatus | None:
    """Each state as it is reached; the final one, or None where there was none in time, or somebody stopped waiting."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = loop.create_task(stop.wait())
    last = "nothing was heard of it"
    end_s = loop.time() + wait_s
    try:
        while True:
            hearing = loop.create_task(asking.next())
            await asyncio.wait({hearing, stopping}, timeout=max(0.0, end_s - loop.time()), return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                hearing.cancel()
                break
            status = hearing.result()
            last = f"it is {status.state}"
            told_elsewhere = status.state in FINAL - {"succeeded"}  # with its reason
            if not told_elsewhere and not (asking.chunks and status.pct is not None):  # the pieces that came say it better
                progress.say(command_pages.state_line(status), status.pct)
            if status.state in FINAL:
                return status
    finally:
        stopping.cancel()
    progress.close()
    if stop.is_set():
        note(
            f"no longer followed; {last}, and goes on without this: boothctl why {asking.booth} tells what became of {asking.id}"
        )
    else:
        note(f"no answer within {wait_s:g} s; {last}. boothctl why {asking.booth} tells what became of {asking.id}")
    return None


async def _tell(options: argparse.Namespace, final: CommandStatus, bundle: BundleFile | None, progress: Progress) -> int:
    if final.verb != options.verb.name:
        raise Failed(f"the id {final.id} is that of another command: {final.verb} {final.state} at {final.at}")
    done = final.state == "succeeded"
    file = None
    failed: Failed | None = None
    if bundle is not None and done:
        try:
            file = await bundle.write(final.result)
        except Failed as failure:
            failed = failure
        finally:
            progress.close()
    if not done:
        note(command_pages.ended_line(options.booth, final))
    if left := command_pages.left_alone(final.result):
        note(f"not tested: {', '.join(left)} (in use, or its answer did not come)")
    if options.json:
        show(options, plain(final) | ({} if file is None else {"file": str(file)}), str)
    else:
        page = command_pages.result_page(final.result)
        if page:
            print(page)
        if file is not None:
            print(f"written to {printable(str(file), 400)}")
    if failed is not None:
        raise failed
    return EXIT_DONE if done else EXIT_FAILED
