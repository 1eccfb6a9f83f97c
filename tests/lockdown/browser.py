"""The real Chromium under the managed policies of a folder, in namespaces of its own, and pages on loopback for it."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

DEADLINE_S: Final = 40  # 2 s on an idle machine

# Its policies are where the machine's own would be, for this one process, and what it leaves lying about goes with it. No name
# leads anywhere.
_START: Final = """
set -e
mount --bind "$0" /etc/chromium
mount -t tmpfs tmpfs /mnt
export TMPDIR=/mnt
exec timeout -k 1 "$1" chromium --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \\
    --disable-component-update --disable-sync --host-resolver-rules="MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1" \\
    "${@:2}"
"""


def _command(root: Path, options: tuple[str, ...]) -> list[str]:
    home = root / "home"
    home.mkdir(exist_ok=True)
    home_is = ["env", f"HOME={home}"]
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")  # none of its processes outlives it
    return [*home_is, *alone, "bash", "-c", _START, str(root / "etc/chromium"), str(DEADLINE_S), *options]


def dumped(root: Path, url: str) -> str:
    """The page as it stands after loading; empty where it did not open."""
    options = ("--headless", f"--user-data-dir={root / 'home' / 'profile'}", "--dump-dom", url)
    done = subprocess.run(_command(root, options), capture_output=True, text=True, timeout=DEADLINE_S + 5, check=False)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return done.stdout


class Driven:
    """A Chromium that is told what to do by the DevTools protocol, over a pipe (`--remote-debugging-pipe`)."""

    def __init__(self, root: Path, *options: str) -> None:
        self.home = root / "home"
        heard_by_it, self._mouth = os.pipe()
        self._ear, said_by_it = os.pipe()
        profile = f"--user-data-dir={self.home / 'profile'}"
        command = _command(root, (profile, "--remote-debugging-pipe", *options, "about:blank"))
        redirected = ["bash", "-c", f'exec "$@" 3<&{heard_by_it} 4>&{said_by_it}', "bash", *command]
        self._process = subprocess.Popen(redirected, pass_fds=(heard_by_it, said_by_it), stderr=subprocess.DEVNULL)
        os.close(heard_by_it)
        os.close(said_by_it)
        self._asked = 0
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._mouth)  # which ends it
        try:
            self._process.wait(DEADLINE_S + 5)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._ear)

    def send(self, method: str, session: str | None = None, **params: object) -> int:
        self._asked += 1
        request = {"id": self._asked, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._mouth, json.dumps(request).encode() + b"\0")
        return self._asked

    def call(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        number = self.send(method, session, **params)
        while True:
            message = self._read()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._ear, 65536)
            assert more, "Chromium has ended"
            self._buffer += more
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, url: str) -> str | None:
        """Open it in the one page, and wait until that one or the page about its failure stands; Chromium's word for why not."""
        if self._session is None:
            target = next(target for target in self.targets() if target["type"] == "page")
            self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
            self.call("Page.enable", self._session)
        failure = self.call("Page.navigate", self._session, url=url).get("errorText")
        if failure != "net::ERR_ABORTED":  # of which no page comes
            self.until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.heard()))
            self.events.clear()
        return None if failure is None else str(failure)

    def heard(self) -> list[dict[str, Any]]:
        """What it told meanwhile."""
        self.call("Browser.getVersion")
        return self.events

    def ask(self, script: str) -> Any:
        """What a script in the page comes to."""
        said = self.call("Runtime.evaluate", self._session, expression=script, returnByValue=True, awaitPromise=True)
        return said["result"].get("value")

    def begin(self, script: str) -> int:
        """The same, without waiting."""
        return self.send("Runtime.evaluate", self._session, expression=script, userGesture=True)

    def targets(self) -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = self.call("Target.getTargets")["targetInfos"]
        return targets

    def until(self, condition: Callable[[], Any]) -> Any:
        """The first true answer. The browser's own deadline ends the waiting."""
        while not (answer := condition()):
            time.sleep(0.05)
        return answer


class Pages:
    """A site on 127.0.0.1: a page at each path, and at `/file` something to download. `asked`: the paths that were asked for."""

    def __init__(self) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                file = self.path == "/file"
                body = b"canary" if file else b"<title>page</title><p>bonjour</p>"
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream" if file else "text/html")
                if file:
                    self.send_header("Content-Disposition", "attachment; filename=landed.bin")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not on the screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.port = self._server.server_port
        self.site = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
