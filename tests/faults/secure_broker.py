"""A broker that booths reach over TLS alone, with authorities that issue, renew and revoke."""

import contextlib
import shutil
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.simulator.mosquitto import Mosquitto, free_port
from tests.faults.pki import Authority, Pair
from tests.world import BOOTH, Observer, World


def put_in_place(pair: Pair, of: Pair) -> None:
    """Another pair in the files of one, as whoever renews it does."""
    for new, old in ((pair.key, of.key), (pair.certificate, of.certificate)):
        shutil.copy(new, old.with_suffix(".new"))
        old.with_suffix(".new").rename(old)


@dataclass
class Secure:
    """Certificates for one broker and one booth, and the broker with a plain listener beside the one with TLS."""

    folder: Path
    authority: Authority
    stranger: Authority
    broker: Mosquitto
    plain_port: int
    served: Pair

    def certified_by(self, authority: Authority) -> None:
        """The broker shows another authority's certificate from now on."""
        put_in_place(authority.issue("moved", "IP:127.0.0.1,DNS:localhost"), self.served)
        assert self.broker._process is not None
        self.broker._process.send_signal(signal.SIGHUP)

    def toml(self, booth: Pair | None, ca: Path, host: str = "127.0.0.1") -> dict[str, Any]:
        table: dict[str, Any] = {"url": f"mqtts://{host}:{self.broker.port}", "ca": str(ca)}
        return table if booth is None else table | {"certificate": str(booth.certificate), "key": str(booth.key)}


@contextlib.asynccontextmanager
async def secure_broker(folder: Path, certificate: str, *, revoked: bool = False) -> AsyncIterator[Secure]:
    """`certificate`: good, expired or elsewhere. Booths must show one of their own, and may write below its CN only.
    `revoked`: the authority has issued a pair `refused` for this booth, and taken it back."""
    authority, stranger = Authority(folder, "fleet-ca"), Authority(folder, "other-ca")
    extra = [f"crlfile {authority.revoke(authority.issue(BOOTH, files='refused'))}"] if revoked else []
    here = "IP:127.0.0.1,DNS:localhost"
    if certificate == "elsewhere":
        pair = authority.issue("elsewhere", "DNS:broker.example")
    else:
        pair = authority.issue("broker", here, expired=certificate == "expired")
    port, plain_port = free_port(), free_port()
    acl = folder / "acl"
    acl.write_text("topic readwrite booth/#\npattern readwrite booth/v1/61/%u/#\n")
    broker = Mosquitto(
        folder,
        "\n".join([
            f"acl_file {acl}", f"listener {plain_port} 127.0.0.1", f"listener {port} 127.0.0.1", f"cafile {authority.file}",
            f"certfile {pair.certificate}", f"keyfile {pair.key}", "require_certificate true", "use_identity_as_username true",
            *extra,
        ]),
        port,
    )  # fmt: skip
    await broker.start()
    try:
        yield Secure(folder, authority, stranger, broker, plain_port, pair)
    finally:
        await broker.stop()


async def watching(observer: Observer) -> None:
    """Until the observer is subscribed: what it publishes itself comes back."""
    marker = f"booth/v1/61/not-a-booth/cmd/marker-{time.monotonic_ns()}/req"
    while not any(message.topic == marker for message in observer.messages):
        observer._client.publish(marker, b"", 1)
        with contextlib.suppress(AssertionError):
            await observer.until(lambda: any(message.topic == marker for message in observer.messages), patience_s=1)


@contextlib.asynccontextmanager
async def another_observer(w: World, port: int, **options: Any) -> AsyncIterator[Observer]:
    """In the place of the world's own, with the same strictness."""
    before, w.observer = w.observer, Observer(port, **options)
    try:
        await watching(w.observer)
        yield w.observer
        assert not w.observer.problems, "\n".join(w.observer.problems[:10])
    finally:
        w.observer.close()
        w.observer = before
