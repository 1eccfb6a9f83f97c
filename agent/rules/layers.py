"""Which layer of the operator's documents counts for what. Contract §7: layers do not mix inside a section."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agent.contract.documents import LayerName

LAYERS: Final[tuple[LayerName, ...]] = ("fleet", "area", "booth")  # the least specific first


class Section(NamedTuple):
    """What a section is, and which layer gave it."""

    layer: LayerName
    value: Any


def effective(documents: Mapping[LayerName, Mapping[str, Any]]) -> dict[str, Section]:
    """The most specific layer that names a section has it whole."""
    found: dict[str, Section] = {}
    for layer in LAYERS:
        for name, value in documents.get(layer, {}).items():
            found[name] = Section(layer, value)
    return found


def by_name(documents: Mapping[LayerName, Mapping[str, Any]], section: str) -> dict[str, Section]:
    """The same inside one section whose names stand for themselves: `peripherals`."""
    return effective(
        {layer: inside for layer, document in documents.items() if isinstance(inside := document.get(section), Mapping)}
    )


def audience_of(layer: LayerName, area: str, booth: str) -> str:
    """The topic before `/config/desired` of each layer of one booth."""
    places: dict[LayerName, str] = {"fleet": "_all/_all", "area": f"{area}/_all", "booth": f"{area}/{booth}"}
    return f"booth/v1/{places[layer]}"
