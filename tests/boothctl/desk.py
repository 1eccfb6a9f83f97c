"""An operator's desk for tests: a folder with keys, and everything that `boothctl` ever said there."""

import base64
import json
from pathlib import Path
from typing import Any

from agent.documents.signatures import SigningKey
from tests.boothctl.program import Done, boothctl

PASSPHRASE = "correct horse battery staple"


class Desk:
    """Commands run in its folder, so that files are named without one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    async def run(self, *arguments: object, status: int = 0, **env: str) -> Done:
        done = await boothctl(self.folder, *arguments, **env)
        self.said += [done.out, done.err]
        assert done.status == status, f"{arguments}: {done}"
        return done

    def keys(self, *names: str) -> None:
        """As `key new` makes them; that has its own tests."""
        for name in names:
            file = self.folder / f"{name}.pem"
            file.touch(0o600)
            file.write_bytes(SigningKey.generate().to_pem())

    def key(self, name: str, passphrase: str | None = None) -> SigningKey:
        pem = (self.folder / f"{name}.pem").read_bytes()
        return SigningKey.from_pem(pem, None if passphrase is None else passphrase.encode())

    def id(self, name: str) -> str:
        return self.key(name).id

    def public(self, name: str) -> str:
        return base64.b64encode(self.key(name).public).decode()

    def write(self, name: str, data: Any) -> None:
        (self.folder / name).write_text(data if isinstance(data, str) else json.dumps(data))

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def assert_no_key_was_told(self) -> None:
        """No private key in what was printed, nor in any file but its own."""
        told = "".join(self.said).encode()
        others = [file.read_bytes() for file in self.folder.iterdir() if file.is_file() and file.suffix != ".pem"]
        for file in self.folder.glob("*.pem"):
            try:
                seed = SigningKey.from_pem(file.read_bytes()).seed
            except ValueError:
                seed = SigningKey.from_pem(file.read_bytes(), PASSPHRASE.encode()).seed
            body = b"".join(file.read_bytes().splitlines()[1:-1])
            base64_at_any_offset = [base64.b64encode(b"-" * shift + seed)[4:-4] for shift in range(3)]
            for secret in (seed, seed.hex().encode(), body, *base64_at_any_offset):
                for data in (told, *others):
                    assert secret not in data, f"the private key of {file.name} was told"
