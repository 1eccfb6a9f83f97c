"""`make fuzz`: each target in a process of its own, over the committed corpus. Needs atheris, which the suite does not.

What is found lies in tests/fuzz/found/ then: mend it, and put the bytes into tests/fuzz/corpus/TARGET/.
"""

import argparse
import contextlib
import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
FOUND = HERE / "found"
NAMES = ("envelope", "document", "trust", "policy", "config", "command", "update", "catalogue", "archive", "manifest")
MODULES = ("agent", "tarfile")  # whose lines guide: an archive is read by Python's own module


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (60)")
    parser.add_argument("--target", choices=NAMES, help="this one alone")
    parser.add_argument("--merge", action="store_true", help="keep in the corpus what this run found new, as little as can be")
    parser.add_argument("--inside", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        fuzz(options.target, options.inside, options.seconds)
    names = [options.target] if options.target else NAMES
    failed = [name for name in names if not run(name, max(1, options.seconds // len(names)), keep=options.merge)]
    if failed:
        sys.stderr.write(f"make fuzz: {', '.join(failed)} broke; the input lies in {FOUND}\n")
    return 1 if failed else 0


def run(name: str, seconds: int, *, keep: bool) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--seconds", str(seconds), "--inside", folder]
        FOUND.mkdir(exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        tried = re.search("number_of_executed_units: *([0-9]+)", done.stderr)
        print(f"{name}: {tried[1] if tried else 'no'} inputs in {seconds} s", flush=True)
        if done.returncode != 0 or tried is None:
            sys.stderr.write(done.stdout[-20_000:] + done.stderr[-20_000:])
            return False
        with contextlib.suppress(OSError):  # what an earlier target broke on lies in it
            FOUND.rmdir()
        if keep:
            learn(name, Path(folder))
    return True


def learn(name: str, found: Path) -> None:
    """The smallest inputs come first; what adds no line of ours that another one did not reach is left out."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - not before it is instrumented, where it is

    corpus = HERE / "corpus" / name
    reached: set[Any] = set()
    files = [*sorted(corpus.iterdir()), *sorted(found.iterdir(), key=lambda file: file.stat().st_size)]
    for file in files:
        lines = _lines(TARGETS[name], file.read_bytes())
        if not lines <= reached and file.parent != corpus and file.stat().st_size < 4096:
            (corpus / file.name[:12]).write_bytes(file.read_bytes())
        reached |= lines


def _lines(target: Any, data: bytes) -> set[Any]:
    lines: set[Any] = set()

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        if "/agent/" not in frame.f_code.co_filename and not frame.f_code.co_filename.endswith("/tarfile.py"):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return lines


def fuzz(name: str, fresh: Path, seconds: int) -> None:
    """Does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(MODULES)):
        targets = importlib.import_module("tests.fuzz.targets")
    seeds = importlib.import_module("tests.fuzz.seeds")
    mutate = importlib.import_module("tests.fuzz.mutate")
    words = seeds.words()
    for number, seed in enumerate(seeds.seeds(name)):
        (fresh / f"seed-{number}").write_bytes(seed)

    bases = [*seeds.seeds(name), *(file.read_bytes() for file in sorted((HERE / "corpus" / name).iterdir()))]

    def mutator(data: bytes, most: int, seed: int) -> Any:
        chance = Random(seed)
        if chance.random() < 0.1:
            return atheris.Mutate(data, most)
        # libFuzzer changes its own changes again: what is no JSON or no archive any more would stay so, and learn nothing new.
        for base in (data, chance.choice(bases), bases[0]):
            with contextlib.suppress(ValueError, RecursionError):
                return mutate.of(name)(base, words, chance)[:most]
        return data

    arguments = [
        "fuzz", f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1",
        "-verbosity=0", f"-artifact_prefix={FOUND}/{name}-", str(fresh), str(HERE / "corpus" / name),
    ]  # fmt: skip
    atheris.Setup(arguments, targets.TARGETS[name], custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
