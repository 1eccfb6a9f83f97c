"""The connection of a rollout, which may take days."""

import time
from typing import Final

from agent.boothctl.gather import Listener
from agent.boothctl.rollout_sight import TOPICS, Sight
from agent.system.broker import BrokerAddress

SETTLED_S: Final = 60.0  # what thousands of booths left on a broker takes some time


class Line(Listener):
    """A connection for days: it may end, and comes back by itself."""

    def __init__(self, address: BrokerAddress, sight: Sight) -> None:
        super().__init__(address, TOPICS, lambda message: sight.take(message, time.time()))

    async def __aenter__(self) -> "Line":
        await super().__aenter__()
        return self

    @property
    def connection(self) -> str | None:
        """Another word for each connection; None while there is none."""
        return self._mqtt.session if self._mqtt.connected else None

    def ask_again(self) -> None:
        self._mqtt.subscribe_again()
