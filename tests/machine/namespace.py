"""A network namespace of our own: a booth's machine with a cable, and the Internet box at its other end."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

_RESOLVERS = Path("/etc/netns")


def missing() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command ip is missing (apt-get install iproute2)"
    made = subprocess.run(["ip", "netns", "add", "booth-try"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"ip netns add: {made.stderr.strip()}"
    entered = subprocess.run(["ip", "netns", "exec", "booth-try", "true"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", "booth-try"], check=True)
    return None if entered.returncode == 0 else f"ip netns exec: {entered.stderr.strip()}"


def missing_mounts() -> str | None:
    """Why a mount namespace cannot be made here; None if it can."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "a mount namespace needs root and unshare"
    made = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else f"unshare --mount: {made.stderr.strip()}"


class Namespace:
    """`booth` is the booth's side (interface `eth0`, 192.0.2.20), `box` the other (192.0.2.1). Use as a context.

    Nothing leads out of either: all traffic stays between the two.
    """

    def __init__(self, name: str) -> None:
        self.booth = f"booth-{name}-{os.getpid()}"
        self.box = f"box-{name}-{os.getpid()}"

    def __enter__(self) -> "Namespace":
        try:
            for namespace in (self.booth, self.box):
                _ip("netns", "add", namespace)
                _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", self.booth, "link", "add", "eth0", "type", "veth", "peer", "name", "lan0", "netns", self.box)
            # No IPv6: its duplicate detection and router discovery only add time.
            self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
            _ip("-n", self.box, "address", "add", "192.0.2.1/24", "dev", "lan0")
            _ip("-n", self.box, "link", "set", "lan0", "up")
            _ip("-n", self.booth, "link", "set", "eth0", "up")
            self.give_address()
            self.route()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        for namespace in (self.booth, self.box):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
        shutil.rmtree(_RESOLVERS / self.booth, ignore_errors=True)
        if _RESOLVERS.is_dir() and not any(_RESOLVERS.iterdir()):
            _RESOLVERS.rmdir()

    # --- what happens to it ---

    def cable(self, *, plugged: bool) -> None:
        """At the box's end: the booth's own interface stays up and loses its carrier."""
        _ip("-n", self.box, "link", "set", "lan0", "up" if plugged else "down")

    def give_address(self) -> None:
        _ip("-n", self.booth, "address", "add", "192.0.2.20/24", "dev", "eth0")

    def take_address(self) -> None:
        _ip("-n", self.booth, "address", "flush", "dev", "eth0")

    def route(self) -> None:
        _ip("-n", self.booth, "route", "add", "default", "via", "192.0.2.1")

    def unroute(self) -> None:
        _ip("-n", self.booth, "route", "delete", "default")

    def box_dies(self) -> None:
        """It no longer answers at its address; the booth has not heard it lately."""
        _ip("-n", self.box, "address", "flush", "dev", "lan0")
        _ip("-n", self.booth, "neighbour", "flush", "dev", "eth0")

    def box_lives(self) -> None:
        _ip("-n", self.box, "address", "add", "192.0.2.1/24", "dev", "lan0")

    def name_server(self, address: str) -> None:
        """What stands in the booth's resolv.conf; for programs that start after this."""
        folder = _RESOLVERS / self.booth
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(f"nameserver {address}\n")

    # --- what lies behind the box ---

    def beyond(self, *addresses: str) -> None:
        """Hosts that the booth reaches by way of the box: they are the box's own, so servers there are `at_the_box`."""
        for address in addresses:
            _ip("-n", self.box, "address", "add", f"{address}/32", "dev", "lo")

    def swallow(self, *addresses: str) -> None:
        """A black hole: what is sent there is dropped, and nobody is told. Open connections hang too."""
        for address in addresses:
            _ip("-n", self.box, "address", "delete", f"{address}/32", "dev", "lo")
            _ip("-n", self.box, "route", "add", "blackhole", f"{address}/32")

    def spit_out(self, *addresses: str) -> None:
        for address in addresses:
            _ip("-n", self.box, "route", "delete", "blackhole", f"{address}/32")
            _ip("-n", self.box, "address", "add", f"{address}/32", "dev", "lo")

    def broken_ipv6(self, network: str) -> None:
        """The booth has an IPv6 address and a default route, as from any box; all that is sent to `network` is lost."""
        self.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        _ip("-n", self.box, "-6", "address", "add", "2001:db8:1::1/64", "dev", "lan0", "nodad")
        _ip("-n", self.box, "-6", "route", "add", "blackhole", network)
        _ip("-n", self.booth, "-6", "address", "add", "2001:db8:1::20/64", "dev", "eth0", "nodad")
        _ip("-n", self.booth, "-6", "route", "add", "default", "via", "2001:db8:1::1", "dev", "eth0")

    # --- programs in it ---

    def inside(self, *command: str) -> tuple[str, ...]:
        """`command` as a command line that runs on the booth's side."""
        return ("ip", "netns", "exec", self.booth, *command)

    def at_the_box(self, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.box, *command)

    def run(self, *command: str) -> str:
        return subprocess.run(self.inside(*command), check=True, capture_output=True, text=True).stdout

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command) or "[]")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
