"""A version of the agent, as its slot says: `python -m tests.updates.agent_process ROOT VERSION BEHAVIOUR`.

`new` and `as installed` work. `crashes` ends at once, `hangs` says nothing for ever, `deaf` runs and never hears its broker.
"""

import asyncio
import sys
import time
from pathlib import Path

import agent


def main() -> None:
    root, version, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    agent.VERSION = version  # type: ignore[misc] # what another release is built with
    if behaviour == "crashes":
        sys.exit("this version is broken")
    if behaviour == "hangs":
        time.sleep(3600)
    asyncio.run(_serve(root, behaviour))


async def _serve(root: Path, behaviour: str) -> None:
    from agent.app import Agent  # noqa: PLC0415 - it takes its version when it is imported
    from agent.machine import Machine  # noqa: PLC0415
    from agent.peripherals import declared  # noqa: PLC0415
    from agent.settings import load  # noqa: PLC0415
    from agent.system.update_socket import UpdateSocket  # noqa: PLC0415

    settings = load(root / "etc/booth-agent/agent.toml", declared())
    machine = Machine(updates=UpdateSocket(root / "run/booth-acts/update.sock"))
    here = Agent(settings, root / "var/lib/booth-agent", machine, runtime_dir=root / "run/booth-agent")
    if behaviour == "deaf":
        here._echo.received = lambda payload: None  # type: ignore[method-assign]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stop.set)
    await here.run(stop)


if __name__ == "__main__":
    main()
