"""`boothctl completion bash|zsh`: a script that knows every act, option and choice, and asks nobody."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.boothctl.terminal import EXIT_DONE
from agent.boothctl.words import USUAL_NAMES

_HOW: Final = {
    "bash": "eval \"$(boothctl completion bash)\" in ~/.bashrc, or in a file of /etc/bash_completion.d",
    "zsh": "eval \"$(boothctl completion zsh)\" in ~/.zshrc, after compinit",
}  # fmt: skip
_PRELUDE: Final = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}

# `node` is the acts named so far, `count` how many words stand after them. Plain enough for zsh's bashcompinit.
_SCRIPT: Final = """\
# Completion of boothctl: {how}.
{prelude}_boothctl_next() {{
    acts='' words='' files=''
    case "$node $count" in
{next}
    esac
}}
_boothctl() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" node=boothctl count=0 index=1 option='' word='' acts words files
    while [ "$index" -lt "$COMP_CWORD" ]; do
        word="${{COMP_WORDS[index]}}"
        index=$((index + 1))
        if [ -n "$option" ]; then option=''; continue; fi
        case "$word" in
        {valued}) option="$word"; continue ;;
        -*) continue ;;
        esac
        _boothctl_next
        case " $acts " in
        *" $word "*) node="$node $word"; count=0 ;;
        *) count=$((count + 1)) ;;
        esac
    done
    acts='' words='' files=''
    if [ -n "$option" ]; then
        case "$node $option" in
{choices}
        esac
        case "$option" in {files}) files=yes ;; esac
    else
        case "$cur" in
        -*) case "$node" in
{options}
            esac ;;
        *)
            _boothctl_next
            case "$node $word" in
{maybe}
            esac ;;
        esac
    fi
    if [ -n "$files" ]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$acts $words" -- "$cur"))
    fi
}}
complete -o filenames -F _boothctl boothctl
"""


@dataclass(frozen=True)
class Node:
    """One act: what may stand where in the words after it, and its options."""

    path: str
    words: tuple[argparse.Action, ...]
    options: tuple[argparse.Action, ...]

    def acts(self) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        for action in self.words:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no other name for it
                yield from action.choices.items()


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", whole: argparse.ArgumentParser) -> None:
    """`whole`: the parser of the command line, which has everything in it by the time that this is asked for."""
    parser = acts.add_parser("completion", help="a script that completes acts, options and choices")
    parser.add_argument("shell", choices=tuple(_HOW), metavar="SHELL", help=" or ".join(_HOW))
    parser.set_defaults(act=lambda options: _print(options.shell, whole))


def _print(shell: str, whole: argparse.ArgumentParser) -> int:
    print(script(shell, whole), end="")
    return EXIT_DONE


def script(shell: str, whole: argparse.ArgumentParser) -> str:
    nodes = list(_nodes("boothctl", whole))
    valued = [action for node in nodes for action in node.options if _takes_a_value(action)]
    return _SCRIPT.format(
        how=_HOW[shell],
        prelude=_PRELUDE[shell],
        next=_lines(line for node in nodes for line in _next(node)),
        valued=_any_of(valued),
        files=_any_of([action for action in valued if action.type is Path]),
        choices=_lines(
            f"'{node.path} {name}') words='{' '.join(_choices(action))}' ;;"
            for node in nodes
            for action in node.options
            if _takes_a_value(action) and _choices(action)
            for name in action.option_strings
        ),
        maybe=_lines(
            f"'{node.path} {name}') words='true false' ;;"
            for node in nodes
            for action in node.options
            if action.nargs == "?"
            for name in action.option_strings
        ),
        options=_lines(f"'{node.path}') words='{' '.join(_names(node.options))}' ;;" for node in nodes),
    )


def _nodes(path: str, parser: argparse.ArgumentParser) -> Iterator[Node]:
    known = [action for action in parser._actions if action.help != argparse.SUPPRESS]  # noqa: SLF001 - argparse shows them to nobody
    node = Node(
        path,
        tuple(action for action in known if not action.option_strings),
        tuple(action for action in known if action.option_strings),
    )
    yield node
    for name, below in node.acts():
        yield from _nodes(f"{path} {name}", below)


def _next(node: Node) -> Iterator[str]:
    for count, action in enumerate(node.words):
        what = [f"{name}='{' '.join(value)}'" for name, value in _what(node, action).items() if value]
        where = f"'{node.path} {count}'" if action.nargs != "*" else f"'{node.path} '*"
        if what:
            yield f"{where}) {' '.join(what)} ;;"


def _what(node: Node, action: argparse.Action) -> dict[str, Any]:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        return {"acts": [name for name, _ in node.acts()]}
    return {"words": _choices(action), "files": ["yes"] if action.type is Path else []}


def _choices(action: argparse.Action) -> list[str]:
    """What may stand there; or usually does, where each booth has names of its own."""
    return list(action.choices or (USUAL_NAMES if action.metavar == "NAME" and "peripheral" in action.dest else ()))


def _takes_a_value(action: argparse.Action) -> bool:
    return action.nargs not in (0, "?")


def _names(actions: tuple[argparse.Action, ...]) -> list[str]:
    return [name for action in actions for name in action.option_strings if name != "-h"]


def _any_of(actions: list[argparse.Action]) -> str:
    return "|".join(sorted({name for action in actions for name in action.option_strings}))


def _lines(lines: Iterator[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)
