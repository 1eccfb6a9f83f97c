"""What a receipt consists of, before anybody knows how wide the paper is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.contract.typed import plain
from agent.contract.words import printable

Style = Literal["plain", "strong", "large", "rule"]
_GLUE: Final = "\u00a0"  # the no-break space
_TEXT_LIMIT: Final = 400  # characters of one paragraph
_STRANGERS_LIMIT: Final = 60  # of what a device says of itself


@dataclass(frozen=True)
class Paragraph:
    """Some lines. `large` takes two columns a letter, a `rule` is a line across. `hang`: so many columns its further lines are
    moved in. A no-break space holds words together."""

    text: str = ""
    style: Style = "plain"
    hang: int = 0


RULE: Final = Paragraph(style="rule")
EMPTY: Final = Paragraph()


def plain_paragraphs(paragraphs: Iterable[Paragraph]) -> list[dict[str, Any]]:
    """As JSON, for the worker that prints. No control character and no endless text is in it, whoever wrote it."""
    return [plain(paragraph) | {"text": _harmless(paragraph.text)} for paragraph in paragraphs]


def _harmless(text: str) -> str:
    parts = (printable(part, _TEXT_LIMIT) for part in text.split(_GLUE))  # which is no printable character itself
    return _GLUE.join(parts)[:_TEXT_LIMIT]


def strangers(text: str) -> str:
    """What a device or a configuration says, as a ticket may show it: escaped and short."""
    return printable(text, _STRANGERS_LIMIT)
