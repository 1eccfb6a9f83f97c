"""The bundles of a release, as an operator has them in files: what an update document says of them."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from agent.boothctl.terminal import Failed
from agent.contract.decode import BadJson, decode_object
from agent.contract.typed import Invalid, build
from agent.updates.agent_release import MANIFEST, Manifest

_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class Bundle:
    file: Path
    manifest: Manifest
    size_bytes: int
    sha256: str


def read_bundle(file: Path) -> Bundle:
    """Raises `Failed` for a file that is no bundle of `make bundle`."""
    try:
        with tarfile.open(file, "r:") as tar:
            stream = tar.extractfile(MANIFEST)
            text = b"" if stream is None else stream.read(_MAX_BYTES + 1)
        manifest = build(Manifest, decode_object(text, _MAX_BYTES))
        with open(file, "rb") as whole:
            digest = file_digest(whole, "sha256").hexdigest()
            size_bytes = whole.tell()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    except (tarfile.TarError, KeyError) as error:
        raise Failed(f"{file}: no bundle: there is no {MANIFEST} in it") from error
    except (BadJson, Invalid) as error:
        raise Failed(f"{file}: {MANIFEST}: {error}") from error
    return Bundle(file, manifest, size_bytes, digest)


def agent_section(bundles: Sequence[Bundle], base_url: str, window: str | None) -> dict[str, Any]:
    """The section `agent`: one version, with a file for each architecture. Raises `Failed`."""
    versions = sorted({bundle.manifest.version for bundle in bundles})
    if len(versions) != 1:
        raise Failed(f"one document has one version, and these bundles are of {', '.join(versions)}")
    artifacts: dict[str, Any] = {}
    for bundle in bundles:
        architecture = bundle.manifest.architecture
        if architecture in artifacts:
            raise Failed(f"{bundle.file}: there is a bundle for {architecture} already")
        url = f"{base_url.rstrip('/')}/{quote(bundle.file.name)}"
        artifacts[architecture] = {"url": url, "size_bytes": bundle.size_bytes, "sha256": bundle.sha256}
    section: dict[str, Any] = {"version": versions[0], "artifacts": artifacts}
    return section if window is None else section | {"window": window}
