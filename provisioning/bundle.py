"""Make a release of the agent that booths take as an update: `make bundle`, docs/bundles.md.

With --local: what an installation on this machine lays into its first slot, from a folder of wheels, without a network, with
Python's standard library alone.

    python3 provisioning/bundle.py --out DIR [--arch amd64,arm64] [--cross DIR]
    python3 provisioning/bundle.py --local --wheels DIR --own WHEEL --out DIR
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

sys.dont_write_bytecode = True  # the sources may be somebody else's
HOUSE: Final = Path(__file__).parents[1]
sys.path.insert(0, str(HOUSE))

from agent import RELEASED_AT, VERSION  # noqa: E402
from agent.contract.typed import plain  # noqa: E402
from agent.updates.agent_release import BASE, MANIFEST, WHEELS, Manifest, Wheel, this_architecture  # noqa: E402
from agent.updates.archive import pack  # noqa: E402
from agent.updates.environment import this_python  # noqa: E402

_NAME: Final = "booth-agent"
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(.*)$", re.MULTILINE)
_ELSEWHERE: Final = "sys_platform == 'win32'"


class NotBundled(Exception):
    """The message tells what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 done, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(prog="bundle.py", description="Make bundles of the agent, or the contents of one.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where they go")
    parser.add_argument("--arch", default="amd64,arm64", metavar="LIST", help="for which machines (default: %(default)s)")
    parser.add_argument("--cross", type=Path, default=HOUSE / "build/cross", metavar="DIR", help="keeps what other machines need")
    parser.add_argument("--local", action="store_true", help="the contents of one for this machine, from --wheels and --own")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="what `make wheels` has filled")
    parser.add_argument("--own", type=Path, metavar="WHEEL", help="the agent's own")
    options = parser.parse_args(arguments)
    if options.local != bool(options.wheels and options.own):
        parser.error("--local takes --wheels and --own, and nothing else does")
    try:
        if options.local:
            local(options.wheels, options.own, options.out)
        else:
            release(options.out, options.arch.replace(",", " ").split(), options.cross)
    except (NotBundled, OSError) as error:
        sys.stderr.write(f"bundle.py: {error}\n")
        return 1
    return 0


def local(wheels: Path, own: Path, out: Path) -> None:
    """Write into the folder `out` what a slot of this machine is laid out from. Raises NotBundled, OSError."""
    chosen = []
    for name, version, rest in _PINNED.findall((HOUSE / "requirements/booth.lock").read_text()):
        if _ELSEWHERE in rest:
            continue
        found = [file for file in wheels.glob("*.whl") if _is(file, name, version)]
        if len(found) != 1:
            has = "several wheels" if found else "no wheel"
            raise NotBundled(f"{wheels} has {has} of {name} {version}; fill an empty folder: make wheels WHEELS=DIR")
        chosen += found
    write_contents(out, this_architecture(), own, chosen)


def write_contents(out: Path, architecture: str, own: Path, others: Sequence[Path]) -> None:
    """A manifest and the wheels that it names. Raises OSError."""
    (out / WHEELS).mkdir(parents=True)
    listed = []
    for wheel in sorted((own, *others), key=lambda wheel: wheel.name):
        shutil.copyfile(wheel, out / WHEELS / wheel.name)
        listed.append(Wheel(wheel.name, sha256(wheel.read_bytes()).hexdigest(), _python_of(wheel)))
    manifest = Manifest(1, _NAME, VERSION, architecture, [this_python()], BASE, listed)  # type: ignore[arg-type]
    (out / MANIFEST).write_text(json.dumps(plain(manifest), indent=1) + "\n")


def release(out: Path, architectures: Sequence[str], cross: Path) -> None:
    """Write a bundle for each architecture, their hashes, and what they consist of. Raises NotBundled, OSError."""
    from bundle_sbom import sbom  # noqa: PLC0415 - an installation has no use for them
    from bundle_wheels import TARGETS, NotBuilt, Workshop  # noqa: PLC0415

    targets = [TARGETS[name] for name in architectures if name in TARGETS]
    if not targets or len(targets) != len(architectures):
        raise NotBundled(f"--arch: name some of {', '.join(TARGETS)}")
    at_s = int(os.environ.get("SOURCE_DATE_EPOCH") or RELEASED_AT)
    packages = sorted({package for target in targets for package in target.packages})
    subprocess.run(["sh", HOUSE / "provisioning/system-packages", *packages], check=True)
    with tempfile.TemporaryDirectory(prefix="booth-bundle-") as name:
        work, made = Path(name), Path(name) / "made"
        made.mkdir()
        try:
            workshop = Workshop(work, cross, at_s)
            own = workshop.own_wheel()
            wheels = {target: workshop.wheels_of_others(target) for target in targets}
            for target, others in wheels.items():
                if (version := workshop.try_out(target, [own, *others])) != VERSION:
                    raise NotBundled(f"what was built for {target.debian} calls itself {version}, not {VERSION}")
                contents = work / f"contents-{target.debian}"
                write_contents(contents, target.debian, own, others)
                (contents / "sbom.json").write_bytes(sbom(_NAME, VERSION, own, others, at_s))
                pack(contents, made / f"{_NAME}-{VERSION}-{target.debian}.tar", at_s)
        except NotBuilt as error:
            raise NotBundled(str(error)) from error
        together = {wheel.name: wheel for others in wheels.values() for wheel in others}
        (made / f"{_NAME}-{VERSION}.cdx.json").write_bytes(sbom(_NAME, VERSION, own, together.values(), at_s))
        files = sorted(made.iterdir())
        sums = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
        (made / "SHA256SUMS").write_text(sums)
        out.mkdir(parents=True, exist_ok=True)
        for file in (*files, made / "SHA256SUMS"):
            shutil.move(file, out / file.name)
            sys.stdout.write(f"{out / file.name}\n")


def _is(wheel: Path, name: str, version: str) -> bool:
    parts = wheel.name.split("-")
    return re.sub(r"[-_.]+", "-", parts[0]).lower() == re.sub(r"[-_.]+", "-", name).lower() and parts[1] == version


def _python_of(wheel: Path) -> str | None:
    """The minor version that a wheel is for; None where later ones, or all, can use it."""
    python, abi, _ = wheel.stem.split("-")[-3:]
    match = re.fullmatch(r"cp3(\d+)", python)
    return f"3.{match[1]}" if match and abi == python else None


if __name__ == "__main__":
    sys.exit(main())
