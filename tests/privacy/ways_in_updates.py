"""The ways in that updates and forms have: an update document's own words, what a web server answers, what a file holds.

Root's part is the real program with the real kinds, below a root of its own.
"""

import asyncio
import contextlib
import hashlib
import http.server
import json
import socket
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.system.update_socket import UpdateSocket
from agent.updates.archive import pack
from tests.documents.operator import Operator
from tests.forms_folder import catalogue, form, pdf
from tests.privacy.canaries import People
from tests.world import ROOT, World

FORMS = "var/lib/booth-forms/current"
_KEPT = ("booth-update/documents/", "booth-forms/slots/")  # the operator's own documents and files


@contextlib.asynccontextmanager
async def roots_part(root: Path, state_dir: Path) -> AsyncIterator[UpdateSocket]:
    """What systemd does for it: each connection is the standard input and output of a process."""
    for folder in ("etc/booth-agent", "var/lib", "proc/sys/kernel/random", "run/booth-acts"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/booth-agent").symlink_to(state_dir)
    (root / "proc/sys/kernel/random/boot_id").write_text("first\n")
    (root / "etc/booth-agent/agent.toml").write_text('[booth]\nid = "61-0007"\narea = "61"\n[broker]\nurl = "mqtt://127.0.0.1"\n')
    Operator().install(root / "etc/booth-agent")
    path = root / "run/booth-acts/update.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.setblocking(False)
        listening.bind(str(path))
        listening.listen()
        serving = asyncio.ensure_future(_serve(root, listening))
        try:
            yield UpdateSocket(path)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _serve(root: Path, listening: socket.socket) -> None:
    while True:
        connection, _ = await asyncio.get_running_loop().sock_accept(listening)
        with connection, open(root / "log", "ab") as log:
            connection.setblocking(True)
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.privileged.update", "--root", str(root), "serve",
                stdin=connection.fileno(), stdout=connection.fileno(), stderr=log,
            )  # fmt: skip
            try:
                await program.wait()
            finally:
                if program.returncode is None:
                    program.kill()
                    await program.wait()


def written_by_root(root: Path) -> Iterator[Path]:
    """`log`, which goes to the journal, and what it notes; without the operator's own documents and files."""
    for file in root.rglob("*"):
        if file.is_file() and not any(kept in str(file) for kept in _KEPT):
            yield file


@dataclass
class Server:
    """Any web server. `answers`: by the path, the status, what it calls it, headers, and what follows."""

    url: str = ""
    answers: dict[str, tuple[int, str, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    made = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            status, words, headers, body = made.answers[self.path.partition("?")[0]]
            self.send_response(status, words)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield made
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


class Updates:
    """The operator publishes one after the other. `query`: what stands behind each address."""

    def __init__(self, w: World, there: Server, query: str) -> None:
        self._w = w
        self._there = there
        self._query = query
        self._rev = 0

    async def published(self, path: str, data: bytes, reason: str | None) -> None:
        """Of the file `data` at `path`; returns when it is done, or has failed for this reason."""
        digest = hashlib.sha256(data).hexdigest()
        file = {"url": f"{self._there.url}{path}?{self._query}", "size_bytes": len(data), "sha256": digest}
        self.document({"forms": {"catalogue": file, "window": "now"}})

        def seen() -> bool:
            told = self._w.observer.last("update/reported") or {}
            wanted = (digest[:12], reason, reason is None)
            return (told.get("to"), told.get("reason"), told.get("phase") == "committed") == wanted

        await self._w.until(seen, f"{path}: {reason or 'committed'}")

    def document(self, doc: dict[str, Any], **over: Any) -> int:
        self._rev += 1
        self._w.observer.publish(f"{ROOT}/update/desired", Operator().sign("update", doc, self._rev, **over), retain=True)
        return self._rev

    async def refused(self, doc: dict[str, Any]) -> None:
        rev = self.document(doc)

        def seen() -> bool:
            told = self._w.observer.last("update/reported")
            return (told["status"], told["layers"]["booth"]["seen_rev"]) == ("rejected", rev)

        await self._w.until(seen, "it is refused")


async def updates_come(w: World, people: People) -> None:
    """A catalogue is fetched, laid out and printed from; others are not, each for a reason of its own."""
    with server() as there:
        here = Updates(w, there, f"token={people.at('update: token in an address').slug}")
        good = _packed(w.folder / "good", people)
        there.answers["/good"] = (200, "OK", {}, good)
        await here.published("/good", good, None)
        await w.until(lambda: w.observer.last("health/forms")["facts"].get("printable") == 1, "a form can be printed")
        _answers_of_others(there, people)
        for path, reason in _REFUSED.items():
            await here.published(path, f"wanted of {path}".encode(), reason)
        for number, bad in enumerate(_bad_archives(w.folder, people)):
            there.answers[f"/bad-{number}"] = (200, "OK", {}, bad)
            await here.published(f"/bad-{number}", bad, "bad-archive")
        name, value, key = (people.at(f"update: {what}") for what in ("unknown kind", "wrong value", "unknown key"))
        address = people.at("update: token in a wrong address")
        good_file = {"url": there.url, "size_bytes": 1, "sha256": "0" * 64}
        await here.refused({name.slug: {}})
        await here.refused({"forms": {"catalogue": good_file | {"sha256": value.all}}})
        await here.refused({"forms": {"catalogue": good_file, key.slug: key.all}})
        await here.refused({"forms": {"catalogue": good_file | {"url": f"ftp://h/?{address.slug}"}}})
        assert any(people.at("update: token in an address").slug in path for path in there.asked), "the server is told it"
    damaged = people.at("forms: a damaged catalogue")
    file = w.folder / "root" / FORMS / "catalogue.json"
    file.write_text(json.dumps(catalogue(form(title=f"\n{damaged.all}", file=f"{damaged.slug}/x.pdf"))))
    await w.until(lambda: "no-device" in w.observer.codes("forms"), "it cannot be read")


_REFUSED = {
    "/redirected-to-nothing": "http-404",
    "/redirected-to-no-port": "bad-url",
    "/redirected-to-no-host": "bad-url",
    "/redirected-to-another-protocol": "bad-redirect",
    "/broken": "http-500",
    "/other": "wrong-hash",
    "/short": "truncated",
    "/longer": "wrong-size",
}


def _answers_of_others(there: Server, people: People) -> None:
    """What whoever stands between booth and operator may put there."""
    canary, moved = people.at("update server: answer"), people.at("update server: redirect")
    said = {"X-Citizen": canary.all, "Content-Type": canary.slug, "Content-Disposition": f"attachment; filename={canary.slug}"}
    places = {
        "/redirected-to-nothing": f"/{moved.slug}?{moved.slug}#{moved.slug}",
        "/redirected-to-no-port": f"http://127.0.0.1:{moved.slug}/",
        "/redirected-to-no-host": f"http://{moved.slug}-{'x' * 70}/{moved.slug}",
        "/redirected-to-another-protocol": f"mailto:{moved.email}",
    }
    for path, place in places.items():
        there.answers[path] = (302, canary.name, said | {"Location": place}, canary.all.encode())
    there.answers[f"/{moved.slug}"] = (404, canary.all, said, canary.all.encode())
    there.answers["/broken"] = (500, canary.all, said, canary.all.encode())
    there.answers["/other"] = (200, canary.all, said, canary.all.encode()[: len("wanted of /other")])
    there.answers["/short"] = (200, canary.all, said | {"Content-Length": str(len("wanted of /short"))}, canary.nir.encode()[:5])
    there.answers["/longer"] = (200, canary.all, said, canary.all.encode())


def _packed(folder: Path, people: People, **over: Any) -> bytes:
    """A catalogue with one form, of which somebody's name is a part."""
    content, title = people.at("forms: content of a file"), people.at("forms: title and warning")
    data = pdf(content.all)
    one = form("10840", data, title=title.name, warning=title.all, source=f"https://x.example/{title.slug}")
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "catalogue.json").write_text(json.dumps(catalogue(one | over)))
    (files / "10840.pdf").write_bytes(data)
    pack(files, folder / "x.tar", 0)
    return (folder / "x.tar").read_bytes()


def _bad_archives(folder: Path, people: People) -> Iterator[bytes]:
    """A catalogue that says what it should not; a file that it does not name; a name that no booth takes."""
    wrong, left_over, named = (people.at(f"forms: {what}") for what in ("wrong catalogue", "left over", "name in an archive"))
    yield _packed(folder / "wrong", people, title=f" {wrong.name}", version=wrong.all, not_after=wrong.all, cerfa=wrong.nir)
    more = folder / "more"
    more.mkdir()
    (more / f"{left_over.slug}.pdf").write_bytes(pdf())
    (more / "catalogue.json").write_text(json.dumps(catalogue(form())))
    pack(more, folder / "more.tar", 0)
    yield (folder / "more.tar").read_bytes()
    info = tarfile.TarInfo(f"{named.name}/x")
    yield info.tobuf() + bytes(2 * tarfile.BLOCKSIZE)
