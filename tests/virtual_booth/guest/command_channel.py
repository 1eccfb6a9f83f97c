"""Runs in the virtual booth, as root: shell commands that the test bench sends, one after the other.

One JSON object a line on a virtio port: `{"id", "command", "timeout_s"}` comes in, `{"id", "status", "output"}`
goes out. `status` is that of the shell, or null where the command was ended because its time was over.
"""

import json
import os
import signal
import subprocess
import tempfile

PORT = "/dev/virtio-ports/booth.commands"
OUTPUT_LIMIT = 4 * 1024 * 1024  # bytes


def main() -> None:
    with open(PORT, "r+b", buffering=0) as port:
        waiting = b""
        while data := port.read(65536):
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                port_write(port.fileno(), json.dumps(answer(json.loads(line))).encode() + b"\n")


def answer(request: dict[str, object]) -> dict[str, object]:
    # Into a file, not a pipe: a pipe would stay open as long as a daemon that the command started.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["sh", "-c", str(request["command"])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        status: int | None
        try:
            status = process.wait(float(str(request["timeout_s"])))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        output.seek(0)
        return {"id": request["id"], "status": status, "output": output.read(OUTPUT_LIMIT).decode(errors="replace")}


def port_write(port: int, data: bytes) -> None:
    while data:
        data = data[os.write(port, data) :]


if __name__ == "__main__":
    main()
