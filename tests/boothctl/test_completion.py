"""`boothctl completion`: what a real bash and a real zsh complete with its script, without a broker or a booth."""

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.boothctl.__main__ import _parser
from agent.boothctl.completion import script
from agent.boothctl.words import USUAL_NAMES
from agent.peripherals import declared as registered
from agent.verbs import declared
from tests.boothctl.program import boothctl, environment

_BASH = """
source completion
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_boothctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
# A shell at a terminal of its own, which lists all that it could complete. What is typed is echoed: the marks are reckoned.
_ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
until_seen() { zpty -r -m shell REPLY "*$1*" || exit 1 }
zpty -w shell "unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source ./completion"
zpty -w shell "bindkey '^T' list-choices; LISTMAX=1000; stty cols 200 rows 200; PROMPT='<%(?.READY.%?)>'"
until_seen '<READY>'  # not before: a terminal whose shell does not read keys yet takes ^U for itself
zpty -w -n shell "$1"$'\\x14'
zpty -w shell $'\\x15print END$((40+2))'
until_seen END42
print -r -- "$REPLY"
"""
bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing (apt-get install bash)")
zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing (apt-get install zsh)")


def complete(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    (folder / "completion").write_text(script("bash", _parser()))
    done = subprocess.run(
        ["bash", "--norc", "-uc", _BASH, "bash", "boothctl", *words],
        capture_output=True, text=True, check=True, cwd=folder, env=environment(folder), timeout=20,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("c",), {"cmd", "config", "completion"}),
        (("cmd", ""), set()),
        (("cmd", "61-0007", ""), set(declared())),
        (("cmd", "61-0007", "test-"), {"test-print", "test-scan", "test-camera"}),
        (("cmd", "61-0007", "restart", ""), {"agent", "cups", "network", "browser"}),
        (("cmd", "61-0007", "restart", "--what", "c"), {"cups"}),
        (("cmd", "61-0007", "restart", "--json", "--by", "tech-7", "n"), {"network"}),
        (("cmd", "61-0007", "maintenance", "--o"), {"--on", "--off"}),
        (("cmd", "61-0007", "maintenance", "--on", ""), {"true", "false"}),
        (("cmd", "61-0007", "maintenance", "--on", "true", ""), set()),
        (("cmd", "61-0007", "probe", "b"), {"board", "booth"}),
        (("cmd", "61-0007", "probe", "--peripheral", "c"), {"camera"}),
        (("cmd", "61-0007", "self-test", "scanner", "a"), {"audio"}),
        (("cmd", "61-0007", "maintenance", "--du"), {"--duration-s"}),
        (("cmd", "61-0007", "maintenance", "--duration-s", ""), set()),
        (("cmd", "61-0007", "probe", "--co"), set()),
        (("cmd", "61-0007", "reboot", "--co"), {"--code"}),
        (("cmd", "61-0007", "reboot", "--sign", "te"), {"tech.pem"}),
        (("cmd", "probe", "re"), {"restart", "reboot"}),  # a booth may be called like a verb
        (("config", "p"), {"push"}),
        (("config", "push", "d"), {"doc.json"}),
        (("sign", "p"), {"policy"}),
        (("key", "trust", "n"), {"new", "next"}),
        (("completion", ""), {"bash", "zsh"}),
        (("nonsense", "c"), set()),
        (("--v",), {"--version"}),
    ],
)
def test_what_bash_completes(tmp_path: Path, words: tuple[str, ...], offered: set[str]) -> None:
    (tmp_path / "tech.pem").touch()
    (tmp_path / "doc.json").touch()
    assert set(complete(tmp_path, *words)) == offered


@bash
def test_every_argument_of_every_verb_is_completed(tmp_path: Path) -> None:
    for name, verb in declared().items():
        offered = complete(tmp_path, "cmd", "61-0007", name, "--")
        for argument in verb.schema()["properties"]:
            if argument != "id":  # each command has an --id for itself; that of `cancel` stands alone
                assert f"--{argument.replace('_', '-')}" in offered, name
        assert ("--code" in offered) == verb.technician
        assert len(offered) == len(set(offered))


@zsh
@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("boothctl cmd 61-0007 test-", "test-print", "locate"),
        ("boothctl cmd 61-0007 restart ", "browser", "probe"),
        ("boothctl cmd 61-0007 maintenance --o", "--off", "--by"),
    ],
)
def test_what_zsh_completes(tmp_path: Path, typed: str, offered: str, not_offered: str) -> None:
    (tmp_path / "completion").write_text(script("zsh", _parser()))
    done = subprocess.run(
        ["zsh", "-f", "-c", _ZSH, "zsh", typed],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=environment(tmp_path) | {"TERM": "dumb"}, timeout=30,
    )  # fmt: skip
    said = done.stdout.partition(typed)[2]
    assert offered in said, done.stdout
    assert not_offered not in said


async def test_the_script_needs_no_broker_and_an_unknown_shell_is_usage(tmp_path: Path) -> None:
    for shell in ("bash", "zsh"):
        done = await boothctl(tmp_path, "completion", shell)
        assert (done.status, done.err) == (0, "")
        assert done.out == script(shell, _parser())
        assert len(done.out) < 20_000
    assert (await boothctl(tmp_path, "completion", "fish")).status == 2


def test_the_usual_names_are_those_of_the_kinds() -> None:
    assert set(USUAL_NAMES) == set(registered())


def test_an_option_takes_a_value_everywhere_or_nowhere() -> None:
    """The script asks for the option's name alone."""
    _, _, valued = script("bash", _parser()).partition('case "$word" in\n')
    names = set(valued.partition(")")[0].split("|"))
    assert "--sign" in {name.strip() for name in names}
    assert not names & {"--json", "--on", "--off", "--help", "--statement", "--passphrase"}
