"""A machine on which nobody may change the owner of anything, as in the sandbox of root's part of the policy."""

import os

import pytest

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of somebody else's")


def no_owner_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("chown", "fchown", "lchown"):
        monkeypatch.setattr(os, name, refused)
