"""The reference of commands, from the declarations in agent/verbs/: `python docs/verbs.py [--check]` writes commands.md."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, get_args

from agent.boothctl.verb_arguments import Argument, arguments, typed
from agent.contract.command import Reason
from agent.contract.documents import RefusalCode
from agent.verbs import declared
from agent.verbs.declaration import Verb

HERE: Final = Path(__file__).parent
NAME: Final = "commands.md"

INTRODUCTION: Final = """\
# Commands

What a booth can be asked to do, over MQTT alone: from a phone with any MQTT client, or with `boothctl cmd`. `make reference`
writes this page; its verbs are those of `agent/verbs/`, and each booth says in `$B/meta` which of them it has. A test runs
every command of this page.

## From a phone

`here` is your broker and your certificate, `B` the booth: `booth/v1/AREA/BOOTH`, as its [topics](operations.md#watching) begin.

```sh
here="-V mqttv5 -h broker.example -p 8883 --cafile ca.pem --cert phone.pem --key phone.key"
B=booth/v1/61/61-0007
```

A request is published at `$B/cmd/VERB/req`, with QoS 1 and **not retained**: a retained one would be done again at each start,
and is refused. Where a verb needs no argument, an empty message is enough. This makes the booth's light show where it is, for a
minute:

```sh
mosquitto_pub $here -q 1 -t "$B/cmd/locate/req" -n
```

Else it is a JSON object, and every key of it may be left out: `id`, `args`, `wait_s`, `issued_at`, `expires_at`, `by`, `code`.

```sh
mosquitto_pub $here -q 1 -t "$B/cmd/probe/req" -m '{"id":"phone-1","args":{"peripheral":"receipt-printer"}}'
mosquitto_sub $here -W 10 -t "$B/cmd/probe/phone-1/status"
```

That shows each [state](#what-comes-back) for ten seconds, and ends with status 27: the end of its time. (`-C 1` would end at the
first one, `received`.) Another key than these is ignored, as everywhere in the contract; in `args`, and in what is signed, it is
refused.

What only a technician may do is signed, or carries the one-time code of the booth's ticket, which proves that somebody stands
in front of it. Ask for a ticket, and write its code into the next request within ten minutes, with an `id` and both times;
capitals, spaces and dashes do not matter. It is good for one command, whichever that is, and travels in clear: who may read
`$B/cmd/+/req` at the broker sees it. The codes of the last few tickets are good at once, and nobody can void one by guessing. A
ticket is printed when nobody uses the booth:

```sh
mosquitto_pub $here -q 1 -t "$B/cmd/ticket/req" -n
```

```sh
mosquitto_pub $here -q 1 -t "$B/cmd/maintenance/req" -m "{\\"id\\":\\"phone-2\\",\\"code\\":\\"K4QW-7MHA\\",
  \\"issued_at\\":\\"$(date -u +%FT%T.000Z)\\",\\"expires_at\\":\\"$(date -u -d '5 minutes' +%FT%T.000Z)\\",
  \\"args\\":{\\"on\\":true}}"
```

Who may publish there is the broker's to decide: its [access rules](operations.md#the-broker) are what keeps strangers from the
verbs that need no signature.

## What comes back

Each state that is reached is published, in order, at `$B/cmd/VERB/ID/status`; the last one stays there for a day:

```json
{"id":"phone-1","verb":"probe","state":"succeeded","step":null,"pct":null,"reason":null,"result":{"status":"ok"},"by":null,"at":"…"}
```

| state | then |
|---|---|
| `received`, `accepted` | it is stored, and will be done |
| `waiting` | a citizen uses the booth, or another command that needs it idle is under way; at most for `wait_s` |
| `executing` | `step` says what is being done, `pct` how far that is |
| `succeeded` | `result` says what was found or done |
| `failed` | it was begun; `result.message` says why it did not work, and what to do |
| `timed-out` | it did not end within the verb's deadline |
| `cancelled` | a technician ended it |
| `refused` | nothing was done; `reason` is one of the words [below](#reasons), `result.message` says what to write instead |
| `expired` | it arrived after its `expires_at` |

- **Ids.** The same `id` again runs nothing: the booth says once more what became of the first. So a request whose answer got
  lost is sent again as it was. Without an `id` the booth makes one, and who asked has to find it by its verb.
- **Times.** Without `expires_at` a request is good for 60 s from its arrival. A broker keeps messages for a booth that is
  switched off: give an `expires_at`, or MQTT's own expiry as `boothctl` does, where it must not be done tomorrow.
- **Another topic for the answer.** MQTT's response topic gets every state too, with the request's correlation data:
  `mosquitto_pub -D publish response-topic answers/ann`. The broker has to let the booth write there, and nothing below
  `booth/v1/` is taken. The status topic stays the truth.
- **What is stored.** The newest 100 commands, for a day, with their arguments and `by`; never a code. A command is stored
  before it is begun. One that a restart interrupts ends as `failed`, `interrupted`, and is not begun again. What a technician
  asks, and what needs the booth idle, is an event `command` as well, and so is each signature or code that was refused.
- **How much.** 8 commands at once, 50 requests a second; what is beyond is dropped and counted. All commands that are neither
  signed nor carry a code share one budget: 60 at once, and after that 2 a second. What is beyond is refused as `rate-limited`.

## With boothctl

The broker is that of `--broker URL`, behind the act; else of `BOOTHCTL_BROKER`; else of `~/.config/boothctl.toml`, which may
name certificates too (a path without a folder is beside it):

```toml
url = "mqtts://broker.example:8883"
ca = "ca.pem"
certificate = "desk.pem"
key = "desk.key"
```

`boothctl cmd BOOTH VERB` takes each argument as an option, and the first that is needed without one; `--help` tells them. It
shows each state as it is reached, then the result; `--json` prints the last status. Exit status: 0 succeeded, 1 refused,
failed, expired, timed out or cancelled, 2 wrong usage, 3 no answer. `^C` stops following: the command goes on.

```sh
boothctl cmd 61-0007 probe receipt-printer
boothctl cmd 61-0007 self-test
boothctl cmd 61-0007 heal receipt-printer --remedy reopen --wait-s 600 --by ann   # a citizen finishes first
boothctl why 61-0007                                # what is wrong, since when, what was tried, what to bring, the last commands
boothctl tour --area 61                             # who has to be visited, and the parts for all; ask while the shops are open
```

Technician's commands are signed with a key that the booth's [trust list](fleet-configuration.md#the-list) names for `command`,
or carry `--code` from the ticket:

```sh
boothctl cmd 61-0007 maintenance --on --duration-s 7200 --sign tech.pem
boothctl cmd 61-0007 maintenance --off --sign tech.pem
```

`diagnostics` gathers the pieces, and writes them to a file once they are whole; nothing in it is about citizens, and a file
that is there is never replaced:

```sh
boothctl cmd 61-0007 diagnostics -o booth.json.gz
gzip -dc booth.json.gz | head -c 200
```

`eval "$(boothctl completion bash)"`, or `zsh`, completes acts, verbs, options, choices and the usual names of peripherals.
"""

_MEANING: Final[Mapping[Reason, str]] = {
    "retained": "it was published to stay: publish it without",
    "session-active": "a citizen uses the booth: wait, or give `wait_s`",
    "outside-window": "`issued_at` is more than five minutes ahead of the booth's clock",
    "clock-unsynced": "the booth's clock is not synchronised, so nothing signed is taken; a code is",
    "not-signed": "a technician's verb without a signature or a good code, or without `id`, `issued_at` and `expires_at`",
    "unknown-verb": "this booth has no such verb: its `meta` has the list",
    "bad-args": "an argument is missing, unknown or out of range: `result.problems` has each with its path",
    "busy": "too much is under way, or the turn is another command's",
    "rate-limited": "too often: the verb's limit says how often; or too many that nobody signed",
    "interrupted": "the agent was started anew in the middle of it",
    "not-supported": "this booth, or this peripheral, cannot do that",
    "bad-envelope": "no DSSE envelope",
    "bad-signature": "a key that is trusted, and not its signature",
    "untrusted-key": "no signature by a key that is trusted for `command`",
    "not-enough-signatures": "fewer than the trust list asks for",
    "wrong-audience": "signed for another booth or another verb",
    "rollback": "of documents",
    "conflict": "of documents",
    "expired": "of documents",
    "too-large": "more than 64 KiB",
    "bad-json": "what was signed is no JSON",
    "invalid": "what was signed has an unknown key, or one that does not fit",
    "unsupported": "an envelope of something else than a command",
    "below-floor": "of documents",
}
_OF_DOCUMENTS: Final = "of documents"  # a command is never refused with it
_KINDS: Final = {
    "harmless": "anybody who may publish there, at any time",
    "idle only": "anybody who may publish there; never while a citizen uses the booth",
    "technician": "a technician: signed, or with the ticket's code",
    "technician, idle only": "a technician: signed, or with the ticket's code; never while a citizen uses the booth",
}


def page(verbs: Iterable[Verb]) -> str:
    """The text of commands.md."""
    verbs = sorted(verbs, key=lambda verb: verb.name)
    lines = [INTRODUCTION, "## Reasons", "", "| reason | means |", "|---|---|"]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in _MEANING.items() if meaning != _OF_DOCUMENTS]
    lines += ["", "## Verbs", ""]
    lines += [f"- [{verb.name}](#{verb.name}): {verb.does}" for verb in verbs]
    return "\n".join([*lines, "", *(line for verb in verbs for line in _section(verb))])


def main(given: list[str], folder: Path = HERE) -> int:
    """Write it, or with --check only compare. Exit status 0 good, 1 something is to be done, 2 usage."""
    if given not in ([], ["--check"]):
        print("usage: python docs/verbs.py [--check]", file=sys.stderr)
        return 2
    text, file = page(declared().values()), folder / NAME
    if not given:
        file.write_text(text, encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != text:
        print(f"docs/{NAME} is not what the declarations say: run `make reference` and commit it", file=sys.stderr)
        return 1
    return 0


def _section(verb: Verb) -> Iterator[str]:
    known = arguments(verb.args)
    yield from (f"### {verb.name}", "", f"{verb.does[0].upper()}{verb.does[1:]}.", "")
    word = typed(known)
    shown = "" if word is None else f" {word.metavar}…" if word.many else f" {word.metavar}"
    yield from (f"`boothctl cmd BOOTH {verb.name}{shown}{''.join(_needed(one) for one in known)}`", "")
    yield from ("| | |", "|---|---|")
    yield from (f"| {head} | {text} |" for head, text in _rows(verb))
    yield ""
    if known:
        yield from ("| argument | type | write | default |", "|---|---|---|---|")
        yield from (f"| `{one.name}` | {_type(one)} | {one.meaning} | {_default(one)} |" for one in known)
        yield ""


def _needed(one: Argument) -> str:
    return f" --{one.flag}" if one.required and one.kind == "switch" else ""


def _rows(verb: Verb) -> Iterator[tuple[str, str]]:
    yield "who", _KINDS[verb.kind]
    yield "deadline", f"{verb.deadline_s:g} s"
    if verb.limit is not None:
        yield "at most", f"{verb.limit.times} times in {verb.limit.within_s:g} s"
    yield "ended by `cancel`", "while it waits, and in the middle" if verb.cancellable else "while it waits"
    if verb.takes_turns:
        yield "in the middle", "a citizen who comes goes first"
    if verb.after_restart is not None:
        yield "after a restart", "it has succeeded where the restart was its own"
    yield "may be refused as", ", ".join(f"`{reason}`" for reason in _reasons(verb))


def _reasons(verb: Verb) -> list[Reason]:
    """Those that any verb has stand in the table alone."""
    found: list[Reason] = []
    if arguments(verb.args):
        found.append("bad-args")
    if verb.technician:
        found += ["not-signed", "clock-unsynced"]
    if verb.idle_only:
        found.append("session-active")
    found.append("busy")
    if verb.limit is not None:
        found.append("rate-limited")
    if verb.ability is not None:
        found.append("not-supported")
    return found


def _type(one: Argument) -> str:
    kind = {"text": "text", "number": "whole number", "switch": "true or false"}[one.kind]
    return f"list of {kind}" if one.many else kind


def _default(one: Argument) -> str:
    if one.required:
        return "required"
    return "none" if one.default in (None, [], ()) else f"`{one.default}`"


assert _MEANING.keys() == {reason for arm in get_args(Reason) for reason in (get_args(arm) or (arm,))}, "each reason is explained"
assert {reason for reason, meaning in _MEANING.items() if meaning == _OF_DOCUMENTS} <= set(get_args(RefusalCode))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
