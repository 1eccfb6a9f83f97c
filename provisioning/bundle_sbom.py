"""What a release consists of, as CycloneDX 1.5 in JSON: each wheel with its origin, hash, licence and what it needs."""

import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

_SPACE: Final = uuid.UUID("6f0c8c1e-5a0f-4a5e-9d0c-6b1f3f0c7a11")  # ours, so that the same contents have the same serial number
_LICENCE: Final = "License :: "
_LONGEST_NAME: Final = 100  # what is longer in the field `License` is the licence itself


def sbom(name: str, version: str, own: Path, others: Iterable[Path], at_s: int) -> bytes:
    """`own`: the wheel of the whole; `others`: what it comes with, for one architecture or more. `at_s`: the release's time."""
    wheels = [own, *sorted(others, key=lambda wheel: wheel.name)]
    described = [_Described(wheel) for wheel in wheels]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, ' '.join(one.sha256 for one in described))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": described[0].component("application") | {"name": name, "version": version},
        },
        "components": [one.component("library") for one in described[1:]],
        "dependencies": [{"ref": one.file, "dependsOn": one.needs(described, extras=one is described[0])} for one in described],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


class _Described:
    """A wheel, as its own METADATA has it."""

    def __init__(self, wheel: Path) -> None:
        self.file = wheel.name
        self.sha256 = sha256(wheel.read_bytes()).hexdigest()
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (item for item in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", item))
            self._metadata: Message = BytesParser().parsebytes(archive.read(metadata))
        self.name = _normalised(self._metadata["Name"])

    def component(self, kind: str) -> dict[str, Any]:
        version = self._metadata["Version"]
        return {
            "type": kind,
            "bom-ref": self.file,
            "name": self.name,
            "version": version,
            "purl": f"pkg:pypi/{self.name}@{version}?file_name={self.file}",
            "hashes": [{"alg": "SHA-256", "content": self.sha256}],
        } | self._licences()

    def needs(self, all_: Sequence["_Described"], *, extras: bool) -> list[str]:
        """The wheels of those that it names, for the architectures that it is for itself. `extras`: also for what is optional."""
        names = {
            _normalised(match[0])
            for line in self._metadata.get_all("Requires-Dist", [])
            if (match := re.match(r"[A-Za-z0-9._-]+", line)) is not None and (extras or "extra ==" not in line)
        }
        return [one.file for one in all_ if one.name in names and self._meets(one)]

    def _meets(self, other: "_Described") -> bool:
        mine, its = (file.rpartition("-")[2].removesuffix(".whl").rpartition("_")[2] for file in (self.file, other.file))
        return "any" in (mine, its) or mine == its

    def _licences(self) -> dict[str, Any]:
        """Nothing where it says nothing."""
        if expression := self._metadata["License-Expression"]:
            return {"licenses": [{"expression": expression}]}
        text = (self._metadata["License"] or "").strip()
        if text and len(text) <= _LONGEST_NAME and "\n" not in text and text != "UNKNOWN":
            return {"licenses": [{"license": {"name": text}}]}
        lines = self._metadata.get_all("Classifier", [])
        names = [line.rpartition(" :: ")[2] for line in lines if line.startswith(_LICENCE)]
        return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
