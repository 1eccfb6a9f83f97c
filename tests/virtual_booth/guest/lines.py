"""Runs in the virtual booth, as root: a GPIO chip whose lines are named by the arguments, and what they carry.

One JSON list a line: seconds since the boot, the line, 1 or 0. The chip is gone when this ends.
"""

import json
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

_CHIPS = Path("/sys/kernel/config/gpio-sim")
_LOOK_S = 0.01  # the files of its lines cannot be waited for


def main(names: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        chip = _folder(stack, _CHIPS / "booth")
        bank = _folder(stack, chip / "bank0")
        (bank / "label").write_text("pinctrl-bcm2711")
        (bank / "num_lines").write_text(str(len(names)))
        for offset, name in enumerate(names):
            (_folder(stack, bank / f"line{offset}") / "name").write_text(name)
        (chip / "live").write_text("1")
        stack.callback((chip / "live").write_text, "0")
        device = Path("/sys/devices/platform", (chip / "dev_name").read_text().strip(), (bank / "chip_name").read_text().strip())
        values = {name: device / f"sim_gpio{offset}" / "value" for offset, name in enumerate(names)}
        carried = dict.fromkeys(names, 0)
        while True:
            for name, file in values.items():
                value = int(file.read_text())
                if value != carried[name]:
                    carried[name] = value
                    print(json.dumps([time.clock_gettime(time.CLOCK_BOOTTIME), name, value]), flush=True)
            time.sleep(_LOOK_S)


def _folder(stack: ExitStack, path: Path) -> Path:
    path.mkdir()
    stack.callback(path.rmdir)
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
