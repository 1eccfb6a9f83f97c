"""`boothctl key new`: whose the file is, what is printed, and what never is."""

import asyncio
import base64
import contextlib
import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.boothctl.desk import PASSPHRASE, Desk
from tests.boothctl.program import environment
from tests.world import BIN


async def test_a_key_is_its_owners_alone_and_prints_its_public_half(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    before = os.umask(0)
    try:
        done = await desk.run("key", "new", "operator.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "operator.pem").stat().st_mode) == 0o600
    assert desk.read("operator.pem").startswith(b"-----BEGIN PRIVATE KEY-----\n"), "PKCS#8, as every other program reads it"
    key = desk.key("operator")
    assert done.out.split() == ["key", "id", hashlib.sha256(key.public).hexdigest(), "public", "key", desk.public("operator")]
    assert done.err == ""
    desk.assert_no_key_was_told()


async def test_what_it_is_for_is_said_as_a_trust_list_takes_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = await desk.run("key", "new", "a.pem", "--for", "policy,config")
    assert done.out.splitlines()[2] == f"for a list  --key {desk.public('a')}:config,policy"
    as_json = await desk.run("key", "new", "b.pem", "--for", "command", "--json")
    assert as_json.json == {"id": desk.id("b"), "ed25519": desk.public("b"), "for": ["command"]}
    desk.assert_no_key_was_told()


async def test_a_key_is_never_replaced_and_no_link_is_followed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.run("key", "new", "a.pem")
    pem = desk.read("a.pem")
    done = await desk.run("key", "new", "a.pem", status=1)
    assert (done.out, done.err) == ("", "boothctl: a.pem: there is a file already, and a key is never replaced\n")
    assert desk.read("a.pem") == pem
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere")
    await desk.run("key", "new", "link.pem", status=1)
    assert not (tmp_path / "elsewhere").exists()
    assert "No such file" in (await desk.run("key", "new", "nowhere/a.pem", status=1)).err


async def test_a_passphrase_encrypts_it_and_opens_it_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.run("key", "new", "a.pem", "--passphrase", BOOTHCTL_PASSPHRASE=PASSPHRASE)
    assert desk.read("a.pem").startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert stat.S_IMODE((tmp_path / "a.pem").stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="passphrase"):
        desk.key("a")
    desk.write("doc.json", {})
    sign = ("sign", "config", "doc.json", "--key", "a.pem", "--audience", "61", "--rev", "1", "--epoch", "1")
    signed = await desk.run(*sign, BOOTHCTL_PASSPHRASE=PASSPHRASE)
    assert signed.json["signatures"][0]["keyid"] == desk.key("a", PASSPHRASE).id
    assert "not the passphrase that opens it" in (await desk.run(*sign, status=1, BOOTHCTL_PASSPHRASE="another")).err
    assert "set BOOTHCTL_PASSPHRASE" in (await desk.run(*sign, status=2)).err
    desk.assert_no_key_was_told()


@pytest.mark.parametrize(("given", "status"), [("", 2), ("x" * 2000, 1)])
async def test_a_passphrase_that_cannot_be_one_makes_no_key(tmp_path: Path, given: str, status: int) -> None:
    desk = Desk(tmp_path)
    await desk.run("key", "new", "a.pem", "--passphrase", status=status, BOOTHCTL_PASSPHRASE=given)
    assert not (tmp_path / "a.pem").exists()


@pytest.mark.parametrize(("second", "status"), [(PASSPHRASE, 0), ("a slip", 1)])
async def test_at_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path, second: str, status: int) -> None:
    terminal, its_end = os.openpty()
    process = await asyncio.create_subprocess_exec(
        str(BIN / "boothctl"), "key", "new", "a.pem", "--passphrase", start_new_session=True,
        stdin=its_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for prompt, answer in ((b"New passphrase: ", PASSPHRASE), (b"The same again: ", second)):
            asked = b""
            while not asked.endswith(prompt):
                asked += await asyncio.wait_for(process.stderr.read(1), 20)
                assert not process.stderr.at_eof(), asked
            os.write(terminal, f"{answer}\n".encode())
        out, err = await process.communicate()
        os.set_blocking(terminal, False)
        echoed = b""
        with contextlib.suppress(BlockingIOError):
            echoed = os.read(terminal, 1000)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(terminal)
        os.close(its_end)
    assert process.returncode == status, err.decode()
    assert PASSPHRASE.encode() not in out + err + echoed
    assert (tmp_path / "a.pem").exists() is (status == 0)
    if status == 0:
        Desk(tmp_path).key("a", PASSPHRASE)
    else:
        assert b"the two passphrases differ; no key was made" in err


async def test_a_key_that_others_may_read_is_used_and_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("a")
    (tmp_path / "a.pem").chmod(0o644)
    desk.write("doc.json", {})
    done = await desk.run("sign", "config", "doc.json", "--key", "a.pem", "--audience", "fleet", "--rev", "1", "--epoch", "1")
    assert "a.pem: others may read this private key" in done.err


async def test_a_key_that_openssl_made_is_a_key(tmp_path: Path) -> None:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
    desk = Desk(tmp_path)
    desk.write("a.pem", made.decode())
    (tmp_path / "a.pem").chmod(0o600)
    read = subprocess.run(["openssl", "pkey", "-pubout", "-outform", "DER"], input=made, capture_output=True, check=True).stdout
    assert base64.b64encode(read[-32:]).decode() == desk.public("a")
    done = await desk.run("key", "trust", "new", "--root", "a.pem", "--root-threshold", "1")
    assert list(done.json["roots"]["keys"]) == [desk.id("a")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("key",), "usage: boothctl key"),
        (("key", "new"), "usage: boothctl key new"),
        (("key", "new", "a.pem", "--for", "config,firmware"), "write some of config,policy,update,command"),
        (("key", "trust"), "usage: boothctl key trust"),
    ],
)
async def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = await Desk(tmp_path).run(*arguments, status=2)
    assert said in done.err
    assert not list(tmp_path.iterdir())
