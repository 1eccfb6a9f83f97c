"""Runs in the virtual booth, as root: LEDs of the kernel's class, named by the arguments, and what they show.

One JSON list a line: seconds since the boot, the LED, its new brightness. They are gone when this ends.
"""

import json
import select
import struct
import sys
import time
from contextlib import ExitStack

_FULL = 255


def main(names: list[str]) -> None:
    with ExitStack() as stack:
        poll, named = select.poll(), {}
        levels: dict[str, int] = {}
        for name in names:
            led = stack.enter_context(open("/dev/uleds", "r+b", buffering=0))
            led.write(struct.pack("64si", name.encode(), _FULL))
            poll.register(led, select.POLLIN)
            named[led.fileno()] = (name, led)
        while True:
            for descriptor, _ in poll.poll():
                name, led = named[descriptor]
                (level,) = struct.unpack("i", led.read(4))
                if level != levels.get(name, 0):
                    levels[name] = level
                    print(json.dumps([time.clock_gettime(time.CLOCK_BOOTTIME), name, level]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
