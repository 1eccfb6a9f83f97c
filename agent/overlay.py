"""The operator's accepted configuration over `agent.toml`, as plain data. Contract §7: over the file it lies key by key; among
themselves layers do not mix inside a section.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.contract.documents import LayerName
from agent.documents.shelf import Shelf
from agent.rules.layers import by_name, effective

Table = Mapping[str, Any]

SHELF: Final = Path("documents/config")  # below the state directory


def merged(local: Table, documents: Mapping[LayerName, Table]) -> dict[str, Any]:
    """`agent.toml`'s data with the operator's documents over it. What a booth does not have is left out."""
    result = {name: dict(table) if isinstance(table, Mapping) else table for name, table in local.items()}
    for name, section in effective(documents).items():
        if name not in ("peripherals", "home_assistant") and isinstance(section.value, Mapping):
            result[name] = {**result.get(name, {}), **section.value}
    peripherals = result.setdefault("peripherals", {})
    for name, section in by_name(documents, "peripherals").items():
        if name in peripherals and isinstance(section.value, Mapping):
            peripherals[name] = {**peripherals[name], **section.value}
    return result


def with_accepted(local: Table, state_dir: Path) -> dict[str, Any] | None:
    """The data with what was accepted before; None where nothing was. A trial that nobody confirmed does not count, and stays
    written down: another agent may run here, and be trying it."""
    documents = Shelf(state_dir / SHELF).settled()
    return merged(local, {layer: document.doc for layer, document in documents.items()}) if documents else None
