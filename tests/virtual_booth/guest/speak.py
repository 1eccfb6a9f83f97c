"""Runs in the virtual booth, as the agent's user: words to the light's hardware, as the agent says them.

`speak [--gpio SOCKET] [--hold-s S] [--rearm-s S] --for-s S WORD…` shows each word for so long. One JSON list a line:
the word, and when it was on show, in seconds since the boot.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import get_args

from agent.contract.words import LightWord
from agent.devices import led_plan
from agent.devices.gpio_light import GpioLight
from agent.devices.led import LedLight, LightHardware
from agent.devices.sysfs import KernelFiles


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpio", type=Path)
    parser.add_argument("--hold-s", type=float)
    parser.add_argument("--rearm-s", type=float, default=1e6)
    parser.add_argument("--for-s", type=float, required=True)
    parser.add_argument("words", nargs="+", choices=get_args(LightWord))
    options = parser.parse_args()
    if options.hold_s is not None:
        vars(led_plan)["_HOLD_MS"] = round(options.hold_s * 1000)  # a minute and a quarter is long for a test
    light: LightHardware
    if options.gpio:
        light = GpioLight(options.gpio)
    else:
        light = LedLight(KernelFiles(), "booth:red:status", "booth:green:status", "booth:blue:status")
    for word in options.words:
        await light.show(word, 100)
        from_s = now_s()
        print(json.dumps([word, from_s]), flush=True)
        while (left_s := from_s + options.for_s - now_s()) > 0:
            await asyncio.sleep(min(left_s, options.rearm_s))
            if left_s > options.rearm_s:
                await light.rearm()


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    asyncio.run(main())
