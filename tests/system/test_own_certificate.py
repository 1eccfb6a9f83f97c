"""Until when the booth's own certificate is good: what cannot be read yet is looked at again, what is the same is not."""

from pathlib import Path
from typing import Any

import pytest

from agent.system import own_certificate
from agent.system.own_certificate import OwnCertificate
from tests.faults.pki import Authority


async def test_a_file_that_is_no_certificate_is_looked_at_again_and_one_that_is_the_same_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, saved, changes = tmp_path / "booth.pem", list[dict[str, Any]](), list[float | None]()
    own = OwnCertificate(lambda: file, lambda: changes.append(own.not_after_s), saved.append)
    await own._read_if_new()
    file.write_text("no certificate")
    await own._read_if_new()
    assert (own.not_after_s, saved, changes) == (None, [], [])
    file.write_bytes(Authority(tmp_path, "ca").issue("61-0007").certificate.read_bytes())
    await own._read_if_new()
    assert changes == [own.not_after_s]
    assert own.not_after_s is not None

    async def asked(_: Path) -> float | None:
        raise AssertionError("it is the same file")

    monkeypatch.setattr(own_certificate, "_not_after_s", asked)
    await own._read_if_new()
    again = OwnCertificate(lambda: file, lambda: None, saved.append)
    again.remember({"certificate": saved[-1]})
    await again._read_if_new()
    assert again.not_after_s == own.not_after_s
    file.unlink()
    await own._read_if_new()
    assert own.not_after_s is None
