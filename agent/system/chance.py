"""Random tokens and jitter straight from the kernel: `secrets` and `random` would cost the daemon 0.2 MiB."""

import os


def token(bytes_: int) -> str:
    """A random token of so many bytes, in hex."""
    return os.urandom(bytes_).hex()


def random_bytes(count: int) -> bytes:
    return os.urandom(count)


def between(low: float, high: float) -> float:
    """A random number from `low` to `high`."""
    return low + (high - low) * int.from_bytes(os.urandom(4), "big") / 0xFFFF_FFFF
