"""A certificate authority for tests, made by openssl: good, expired, and of another name."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
default_crl_days = 30
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """One CA in a folder of its own. `file` is its certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        (self._folder / "index.txt").touch()
        self._config = self._folder / "ca.conf"
        self._config.write_text(_CONFIG.format(folder=self._folder))
        self.file = self._folder / "ca.pem"
        self._key = self._folder / "ca.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", str(self._key), "-out", str(self.file), "-days", "120", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(
        self, name: str, san: str | None = None, *, expired: bool = False, days: int = 90, files: str | None = None
    ) -> Pair:
        """A certificate whose CN is `name`; `san` as openssl writes it, such as `IP:127.0.0.1,DNS:localhost`; `files`: what
        its files are called, where not so."""
        request, key, certificate = (self._folder / f"{files or name}.{ending}" for ending in ("csr", "key", "pem"))
        extensions = () if san is None else ("-addext", f"subjectAltName={san}")
        _openssl("req", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}", *extensions)
        dates = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z") if expired else ("-days", str(days))
        _openssl(
            "ca", "-batch", "-notext", "-config", str(self._config), "-cert", str(self.file), "-keyfile", str(self._key),
            "-in", str(request), "-out", str(certificate), *dates,
        )  # fmt: skip
        return Pair(certificate, key)

    def issued(self, files: str) -> Pair:
        """A pair that was issued before."""
        return Pair(self._folder / f"{files}.pem", self._folder / f"{files}.key")

    def revoke(self, pair: Pair) -> Path:
        """The list of what is revoked, with this one on it."""
        own = ("-config", str(self._config), "-cert", str(self.file), "-keyfile", str(self._key))
        _openssl("ca", *own, "-revoke", str(pair.certificate))
        revoked = self._folder / "revoked.pem"
        _openssl("ca", *own, "-gencrl", "-out", str(revoked))
        return revoked


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
