"""`python -m agent.documents.certificate < booth.pem`: until when a certificate is good.

A process of its own: the library that reads certificates stays out of the daemon.
"""

import json
import sys

from cryptography import x509


def not_after_s(pem: bytes) -> float:
    """Seconds since 1970, of the first certificate in a PEM file. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


def main() -> int:
    try:
        answer = not_after_s(sys.stdin.buffer.read(1 << 20))
    except ValueError:
        return 1
    json.dump({"not_after_s": answer}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
