"""`boothctl forms check | pack | publish`: the forms that booths print without the Internet. What a booth would refuse is refused
here first, by the same questions."""

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

from agent.boothctl.connection import broker_options, online
from agent.boothctl.push_acts import keeping_options, publishing_options, push_section
from agent.boothctl.terminal import EXIT_DONE, Failed, note, show, usage
from agent.contract.forms import CATALOGUE, Catalogue, catalogue_in, folder_problems
from agent.contract.typed import Invalid
from agent.contract.update import Window
from agent.contract.words import printable
from agent.system.broker import BrokerAddress
from agent.updates.archive import pack, unpack
from agent.updates.forms import good_catalogue
from agent.updates.kind import NotGood

_SOON: Final = timedelta(days=60)
_PACKED_AT_S: Final = 0  # the same forms give the same file, whenever it is made


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    group = acts.add_parser("forms", help="the forms that booths print without the Internet")
    about = group.add_subparsers(required=True, metavar="ACT")
    check = about.add_parser("check", parents=[json_option], help="what is wrong with a folder of forms, and what soon will be")
    pack_ = about.add_parser("pack", parents=[json_option], help="make the file that booths fetch")
    for parser, act in ((check, _check), (pack_, _pack)):
        parser.add_argument("folder", type=Path, metavar="DIR", help=f"with {CATALOGUE} and the files that it names")
        parser.set_defaults(act=act)
    pack_.add_argument("-o", dest="out", type=Path, required=True, metavar="FILE", help="what pack makes, such as forms.tar")
    publish = about.add_parser(
        "publish", parents=[broker_options(wait_s=None), json_option], help="have booths fetch and lay out a packed file"
    )
    publish.add_argument("file", type=Path, metavar="FILE", help="what pack has made")
    publishing_options(publish)
    keeping_options(publish)
    publish.add_argument("--url", required=True, metavar="URL", help="where booths find it; a folder's, if it ends in /")
    publish.add_argument("--window", choices=get_args(Window), help="when it may count; else the first moment that fits")
    publish.set_defaults(act=online(_publish), kind="update")


def _check(options: argparse.Namespace) -> int:
    catalogue = _good(options.folder)
    warnings = list(_warnings(options.folder, catalogue, datetime.now(UTC).date()))
    for warning in warnings:
        note(warning)
    found = {"catalogue": catalogue.version, "forms": len(catalogue.forms), "warnings": warnings}
    show(options, found, lambda: f"good: {_in_words(catalogue)}")
    return EXIT_DONE


def _pack(options: argparse.Namespace) -> int:
    folder = options.folder
    catalogue = _good(folder)
    if options.out.resolve().parent == folder.resolve():
        raise usage(f"{options.out} lies in {folder} itself, where only forms may lie: name another place")
    fresh = options.out.with_name(f".{options.out.name}.new")
    try:
        pack(folder, fresh, _PACKED_AT_S)
        fresh.replace(options.out)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise Failed(f"{options.out}: {error.strerror}") from error
    size_bytes, sha256 = _measured(options.out)
    show(
        options,
        {"file": str(options.out), "catalogue": catalogue.version, "size_bytes": size_bytes, "sha256": sha256},
        lambda: f"packed: {_in_words(catalogue)}\n{size_bytes} bytes, sha256 {sha256}",
    )
    return EXIT_DONE


async def _publish(options: argparse.Namespace, address: BrokerAddress) -> int:
    if not options.key:
        raise usage("booths take nothing unsigned: give --key")
    catalogue = _packed(options.file)
    size_bytes, sha256 = _measured(options.file)
    url = options.url + options.file.name if options.url.endswith("/") else options.url
    section: dict[str, Any] = {"catalogue": {"url": url, "size_bytes": size_bytes, "sha256": sha256}}
    if options.window is not None:
        section["window"] = options.window
    note(f"{_in_words(catalogue)}, version {sha256[:12]} in reports; booths fetch it from {url}: it has to lie there")
    return await push_section(options, address, "forms", section)


def _good(folder: Path) -> Catalogue:
    """Raises `Failed` with every problem."""
    try:
        catalogue = catalogue_in(folder)
        problems = [str(problem) for problem in folder_problems(folder, catalogue)]
    except Invalid as error:
        problems = [f"{CATALOGUE}: {problem}" for problem in error.problems]
    except OSError as error:
        raise Failed(f"{folder / CATALOGUE}: {error.strerror}") from error
    if problems:
        raise Failed(*problems)
    return catalogue


def _warnings(folder: Path, catalogue: Catalogue, today: date) -> Iterator[str]:
    for form in catalogue.forms:
        if form.withdrawn:
            if (folder / form.file).exists():
                yield f"{form.cerfa}: it is withdrawn, and {form.file} may be left out"
        elif form.expired(today):
            yield f"{form.cerfa}: expired since {form.not_after}: look for a newer one at {form.source}"
        elif form.expired(today + _SOON):
            yield f"{form.cerfa}: good until {form.not_after} only: look for a newer one at {form.source}"


def _packed(file: Path) -> Catalogue:
    """What is in it, unpacked and looked at as a booth does. Raises `Failed`."""
    with tempfile.TemporaryDirectory(prefix="booth-forms-") as folder:
        try:
            unpack(file, Path(folder))
            return good_catalogue(Path(folder))
        except NotGood as error:
            raise Failed(f"{file}: {error.reason}: {error}") from error
        except OSError as error:
            raise Failed(f"{file}: {error.strerror}") from error


def _measured(file: Path) -> tuple[int, str]:
    with open(file, "rb") as stream:
        return file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()


def _in_words(catalogue: Catalogue) -> str:
    withdrawn = sum(form.withdrawn for form in catalogue.forms)
    offered = len(catalogue.forms) - withdrawn
    more = f" and {withdrawn} withdrawn" if withdrawn else ""
    return printable(f"catalogue {catalogue.version}, {offered} form{'' if offered == 1 else 's'}{more}")
