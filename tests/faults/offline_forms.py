"""A booth without any network, which prints its forms: `python -m tests.faults.offline_forms FOLDER`, in namespaces of its own.

There is one interface, loopback, and no route. Broker, print server and agent are the real ones. The forms went through the file
that a booth fetches, and lie where nothing can be written. One line of JSON comes out: what each form's job was.
"""

import asyncio
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.contract.forms import catalogue_in
from agent.simulator.cups import Cups
from agent.updates.archive import pack, unpack
from agent.updates.forms import KIND
from tests.forms_folder import SHIPPED
from tests.world import World, world


def laid(folder: Path) -> Path:
    """The shipped forms, as root lays them out; read-only from here on."""
    files, place = folder / "files", folder / "booth-forms"
    slot = place / "slots" / "a"
    for each in (files, slot):
        each.mkdir(parents=True)
    pack(SHIPPED, folder / "forms.tar", 0)
    unpack(folder / "forms.tar", files)
    KIND.lay(files, slot, slot, "")
    KIND.check(slot, folder)
    (place / "current").symlink_to("slots/a")
    for options in (("--bind", str(place)), ("-o", "remount,ro,bind")):
        subprocess.run(["mount", *options, str(place)], check=True)
    try:
        (place / "current" / "scribble").touch()
    except OSError as error:
        assert error.errno == errno.EROFS
    else:
        raise AssertionError("the cache can be written to")
    return place / "current"


def health(w: World, name: str) -> str | None:
    status: str | None = (w.observer.last(f"health/{name}") or {}).get("status")
    return status


async def main(folder: Path) -> list[Any]:
    current = laid(folder)
    cups = Cups(folder)
    await cups.start()
    peripherals = {
        "document-printer": {"kind": "document-printer", "device": cups.url, "poll_s": 1},
        "forms": {"kind": "forms", "device": str(current)},
        "network": {"kind": "network", "interval_s": 5},
    }
    try:
        async with world(folder, peripherals=peripherals) as w:
            await w.start_agent()
            await w.until(lambda: health(w, "network") in ("fault", "absent"), "the network missed")
            await w.until(lambda: health(w, "forms") == "ok", "the forms")
            await w.until(lambda: w.observer.last("service/forms") == "ok", "the service")
            assert w.observer.last("service/web") == "down"
            printed = []
            for form in catalogue_in(current).forms:
                job = await cups.print_file(current / form.file, form.copies)
                await w.until(lambda job=job: job in cups.sheets, f"{form.cerfa} in the tray")  # type: ignore[misc]
                assert cups.sheets[job] == (form.copies, form.sha256)
                printed.append([form.cerfa, form.copies])
            assert w.observer.last("service/forms") == "ok"
            assert w.observer.codes("forms") == []
    finally:
        await cups.stop()
    return printed


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
