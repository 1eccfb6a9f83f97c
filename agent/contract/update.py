"""What the sections of an update document have in common. Contract §7."""

from dataclasses import dataclass
from typing import Annotated, Literal

from agent.contract.typed import Pattern, Range

Architecture = Literal["amd64", "arm64"]
Window = Literal["power-on", "closed", "idle", "now"]
Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 in hex")]
# As Python's own versions (PEP 440), without what would make two spellings of one: 1.4.0, 1.4.0rc1, 1.4.0.dev3.
Version = Annotated[
    str,
    Pattern(
        r"(?:0|[1-9][0-9]{0,5})(?:\.(?:0|[1-9][0-9]{0,5})){0,3}(?:(?:a|b|rc)(?:0|[1-9][0-9]{0,3}))?(?:\.dev(?:0|[1-9][0-9]{0,3}))?",
        "a version such as 1.4.0",
    ),
]
MAX_ARTIFACT_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Artifact:
    """A file that any web server has: what is signed is its size and its SHA-256, so that nothing else about it is believed."""

    url: Annotated[
        str,
        # Behind it may stand a token.
        Pattern(r"https?://[^\s/?#@]{1,255}(?:/[!-~]{0,1500})?", "an http:// or https:// address without a user", secret=True),
    ]
    size_bytes: Annotated[int, Range(1, MAX_ARTIFACT_BYTES)]
    sha256: Sha256
