"""`boothctl key new | trust`: signing keys, and the lists of those that booths trust."""

import argparse
import base64
from pathlib import Path
from typing import Any

from agent.boothctl import trust_acts
from agent.boothctl.key_files import VARIABLE, new_passphrase, write_key
from agent.boothctl.terminal import EXIT_DONE, show
from agent.boothctl.words import USES, uses
from agent.documents.signatures import SigningKey


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    about = acts.add_parser("key", help="signing keys, and the lists of those that booths trust")
    keys = about.add_subparsers(required=True, metavar="ACT")
    new = keys.add_parser("new", parents=[json_option], help="make a signing key")
    new.add_argument("file", type=Path, metavar="FILE", help="is made, for its owner alone; never replaced")
    new.add_argument("--for", type=uses, dest="uses", metavar="USE,…", help=f"for a trust list: {', '.join(USES)}")
    new.add_argument("--passphrase", action="store_true", help=f"encrypt the file; from {VARIABLE}, else asked for")
    new.set_defaults(act=_new)
    trust_acts.add_to(keys, json_option)


def _new(options: argparse.Namespace) -> int:
    key = SigningKey.generate()
    write_key(options.file, key, new_passphrase() if options.passphrase else None)
    public = base64.b64encode(key.public).decode()
    data: dict[str, Any] = {"id": key.id, "ed25519": public}
    lines = [f"key id      {key.id}", f"public key  {public}"]
    if options.uses is not None:
        data["for"] = options.uses
        lines.append(f"for a list  --key {public}:{','.join(options.uses)}")
    show(options, data, lambda: "\n".join(lines))
    return EXIT_DONE
