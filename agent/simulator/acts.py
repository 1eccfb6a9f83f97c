"""Root's acts on simulated devices: what `agent.privileged` does on a booth."""

from collections.abc import Awaitable, Callable

Act = Callable[[], Awaitable[None]]


class SimulatedActs:
    """`table` holds what can be done, by act and peripheral; everything else is `not-supported`. `asked` keeps what was asked,
    `done` what was done."""

    def __init__(self) -> None:
        self.table: dict[tuple[str, str], Act] = {}
        self.asked: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []

    async def act(self, name: str, slot: str) -> str:
        self.asked.append((name, slot))
        act = self.table.get((name, slot))
        if act is None:
            return "not-supported"
        await act()
        self.done.append((name, slot))
        return "done"
