"""What stands in the Internet of `far_booth`: the box's resolver, and the operator's check page. Programs of their own."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from tests.background import meanwhile
from tests.machine.namespace import Namespace
from tests.machine.test_network_namespace import program

# Names and addresses in its argument. Lines on stdin: "answer", "fail" (SERVFAIL), "silent", or the address to lie with.
# Says each question on stdout: when it came, by the clock that all processes share, and the name.
NAME_SERVER = """
import json, select, socket, struct, sys, time
names, mode = json.loads(sys.argv[1]), "answer"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("192.0.2.1", 53))
print("ready", flush=True)
while True:
    ready, _, _ = select.select([server, sys.stdin], [], [])
    if sys.stdin in ready:
        mode = sys.stdin.readline().strip()
        print("mode", mode, flush=True)
        continue
    question, asker = server.recvfrom(4096)
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    (kind,) = struct.unpack_from("!H", question, at + 1)
    name = ".".join(labels).lower()
    print(time.monotonic(), name, flush=True)
    if mode == "silent":
        continue
    family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
    addresses = names.get(name, []) if mode == "answer" else [] if mode == "fail" else [mode]
    packed = [socket.inet_pton(family, a) for a in addresses if family and (":" in a) == (kind == 28)]
    code = 2 if mode == "fail" else 0 if addresses else 3
    header = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(packed), 0, 0)
    answers = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(a)) + a for a in packed)
    server.sendto(header + question[12 : at + 5] + answers, asker)
"""

# Address, status, and for https a certificate and its key.
PAGE_SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.send_header("Location", "http://portal.example/login")
        self.end_headers()
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass
server = Server((sys.argv[1], 8080), Handler)
if sys.argv[3:]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


class NameServer:
    """The box's resolver. `questions`: when each came, and for which name."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.questions: list[tuple[float, str]] = []
        self._process = process
        self._mode = "answer"
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(cls, namespace: Namespace, names: Mapping[str, Sequence[str]]) -> "AsyncIterator[NameServer]":
        """At the box of `namespace`."""
        command = namespace.at_the_box(sys.executable, "-IS", "-c", NAME_SERVER, json.dumps(names))
        async with program(command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE) as process:
            server = cls(process)
            async with meanwhile(server._read()):
                yield server

    async def become(self, mode: str) -> None:
        """`answer`, `fail`, `silent`, or an address that it gives for every name."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n".encode())
        await self._until(lambda: self._mode == mode)

    async def asked_for(self, name: str) -> float:
        """Until somebody asks for `name`, from now on; returns when."""
        already = len(self.questions)
        await self._until(lambda: any(asked == name for _, asked in self.questions[already:]))
        return next(at_s for at_s, asked in self.questions[already:] if asked == name)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode():
            first, _, rest = line.strip().partition(" ")
            if first == "mode":
                self._mode = rest
            elif first != "ready":
                self.questions.append((float(first), rest))
            self._news.set()
