"""Folders of forms for tests: the ones that ship, and small ones of a test's own."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SHIPPED: Final = Path(__file__).parents[1] / "provisioning" / "forms"


def pdf(text: str = "form") -> bytes:
    return b"%PDF-1.4\n" + text.encode() + b"\n%%EOF\n"


def form(cerfa: str = "10840", /, data: bytes | None = None, **over: Any) -> dict[str, Any]:
    """An entry of a catalogue, with a file of its own."""
    data = pdf(cerfa) if data is None else data
    return {
        "cerfa": cerfa, "title": "Demande d'aide", "file": f"{cerfa.replace('*', '-')}.pdf", "version": "02",
        "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "verified_on": "2026-11-01", "not_after": None,
        "source": "https://www.service-public.gouv.fr/", "withdrawn": False, "copies": 1, "warning": None,
    } | over  # fmt: skip


def catalogue(*forms: Mapping[str, Any], **over: Any) -> dict[str, Any]:
    return {"schema": 1, "version": "2026-11-01", "forms": list(forms)} | over


def furnish(folder: Path, *forms: Mapping[str, Any], **over: Any) -> Path:
    """A folder with a catalogue and the files of its forms, as `form` makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalogue.json").write_text(json.dumps(catalogue(*forms, **over)))
    for one in forms:
        (folder / one["file"]).write_bytes(pdf(one["cerfa"]))
    return folder


def shipped(folder: Path) -> Path:
    """A copy of the forms that ship."""
    return Path(shutil.copytree(SHIPPED, folder))
