"""Runs in the virtual booth, as the agent's user: asks root for acts, all at once: `ask.py ACT SLOT ACT SLOT…`.

One line for each: root's verdict, or `null` where it hung up without one.
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

_WITHIN_S = 90


def ask(act: str, slot: str) -> str:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_WITHIN_S)
        line.connect(f"/run/booth-acts/{act}.sock")
        try:
            line.sendall(f"{slot}\n".encode())
            with line.makefile() as answer:
                return answer.readline().strip() or "null"
        except ConnectionError:
            return "null"


if __name__ == "__main__":
    acts, slots = sys.argv[1::2], sys.argv[2::2]
    with ThreadPoolExecutor(len(acts)) as pool:
        for verdict in pool.map(ask, acts, slots):
            print(verdict)
