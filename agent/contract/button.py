"""The shopkeeper's button: what booth-button tells the agent, and what `agent.toml` says of it."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from agent.contract.typed import Check, Pattern

ButtonWord = Literal["pressed", "held"]
"""One datagram: pressed and let go; or still down after `HELD_S`."""

SOCKET_NAME: Final = "button.sock"  # in /run/booth-agent
HELD_S: Final = 8.0

Bias = Literal["pull-up", "pull-down", "disabled", "as-is"]


@dataclass(frozen=True)
class ButtonTable:
    """`[button]`. `line` as `gpioinfo` names it; `active_low`: the line is low while it is pressed. `bias`: what holds the line
    while nobody presses; without it, the board's own resistor away from the pressed level."""

    line: Annotated[str, Pattern("[!-~]{1,31}", "the name of a line as `gpioinfo` shows it, such as GPIO23")]
    active_low: bool = True
    bias: Bias | None = None

    @property
    def held_by(self) -> Bias:
        return self.bias or ("pull-up" if self.active_low else "pull-down")


def _button_problem(button: ButtonTable) -> str | None:
    if (button.bias, button.active_low) in (("pull-up", False), ("pull-down", True)):
        return f"with bias {button.bias} it would be pressed for ever: leave bias out, or turn active_low over"
    return None


Button = Annotated[ButtonTable, Check(_button_problem, "the line of the button")]
