"""The trust list: who may sign what, how many have to, and how one list follows another."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.documents import Refusal
from agent.contract.envelope import open_envelope
from agent.documents.signatures import SigningKey, seal
from agent.documents.trust import PAYLOAD_TYPE, Trust, next_trust, read_trust, signed_by
from tests.documents.operator import Operator, key, public

OPERATOR = Operator()
KEYS = [key(f"signer-{number}") for number in range(4)]
STRANGERS = [key(f"stranger-{number}") for number in range(3)]


def trust(**over: Any) -> Trust:
    return read_trust(json.dumps(OPERATOR.trust(**over)).encode())


def listed(keys: list[SigningKey], *, operator: Operator = OPERATOR, **over: Any) -> bytes:
    return seal(PAYLOAD_TYPE, json.dumps(operator.trust(**over)).encode(), keys)


def code_of(refused: pytest.ExceptionInfo[Refusal]) -> tuple[str, str]:
    return refused.value.code, refused.value.path


# --- what a list may say ---


def test_a_list_names_keys_for_each_use() -> None:
    one, other = OPERATOR.both
    keys = {
        one.id: {"ed25519": public(one), "for": ["config"]},
        other.id: {"ed25519": public(other), "for": ["policy", "config"]},
    }
    read = trust(keys=keys)
    assert read.keys_for("config") == {one.id: one.public, other.id: other.public}
    assert read.keys_for("policy") == {other.id: other.public}
    assert read.keys_for("update") == {}
    assert read.root_keys() == {root.id: root.public for root in OPERATOR.roots}


def test_two_have_to_sign_what_loosens_unless_the_list_says_otherwise() -> None:
    data = OPERATOR.trust()
    del data["thresholds"]
    assert read_trust(json.dumps(data).encode()).thresholds.loosen == 2


@pytest.mark.parametrize(
    ("over", "path"),
    [
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"version": "1"}, "version"),
        ({"epoch": -1}, "epoch"),
        ({"epoch": 2**53 + 1}, "epoch"),
        ({"roots": {"threshold": 0, "keys": {}}}, "roots.threshold"),
        ({"roots": {"threshold": 1, "keys": {}}}, "roots"),
        ({"roots": {"threshold": 3, "keys": {root.id: public(root) for root in OPERATOR.roots}}}, "roots"),
        ({"roots": {"threshold": 1, "keys": {"ab" * 32: public(OPERATOR.roots[0])}}}, "roots"),
        ({"keys": {"ab" * 32: {"ed25519": public(OPERATOR.first), "for": ["config"]}}}, "keys"),
        ({"keys": {OPERATOR.first.id: {"ed25519": "AAAA", "for": []}}}, "keys."),
        ({"keys": {OPERATOR.first.id: {"ed25519": public(OPERATOR.first), "for": ["root"]}}}, "keys."),
        ({"keys": {"first": {"ed25519": public(OPERATOR.first), "for": ["config"]}}}, "keys"),
        ({"thresholds": {"config": 0}}, "thresholds.config"),
        ({"thresholds": {"loosen": 17}}, "thresholds.loosen"),
        ({"also": 1}, "also"),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused_with_the_place(over: dict[str, Any], path: str) -> None:
    with pytest.raises(Refusal) as refused:
        trust(**over)
    assert refused.value.code == "invalid"
    assert refused.value.path.startswith(path)


@pytest.mark.parametrize(("data", "code"), [(b"", "bad-json"), (b"[]", "bad-json"), (b'{"a":1,"a":1}', "bad-json")])
def test_bytes_that_are_no_list_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_trust(data)
    assert refused.value.code == code


def test_a_list_that_is_too_large_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        read_trust(b" " * (256 * 1024 + 1))
    assert refused.value.code == "too-large"


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_there_is_a_list_or_a_refusal(data: bytes) -> None:
    with pytest.raises(Refusal):
        read_trust(data)


# --- how many signed ---


def signed(keys: list[SigningKey], payload: bytes = b"{}") -> Any:
    return open_envelope(seal("t", payload, keys))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(KEYS), max_size=6), st.lists(st.sampled_from(STRANGERS), max_size=4), st.integers(1, 4), st.randoms()
)
def test_it_takes_as_many_different_trusted_keys_as_the_threshold_says(
    ours: list[SigningKey], others: list[SigningKey], threshold: int, chance: Any
) -> None:
    """The same key twice counts once, and whoever else signed, anywhere in between, harms nobody."""
    signers = [*ours, *others]
    chance.shuffle(signers)
    known = {one.id: one.public for one in KEYS}
    different = {one.id for one in ours}
    if len(different) >= threshold:
        assert signed_by(signed(signers), known, threshold) == different
    else:
        with pytest.raises(Refusal) as refused:
            signed_by(signed(signers), known, threshold)
        assert refused.value.code == ("not-enough-signatures" if different else "untrusted-key")


def test_the_same_key_under_another_name_is_no_second_one() -> None:
    data = json.loads(seal("t", b"{}", [KEYS[0]]))
    data["signatures"].append(data["signatures"][0] | {"keyid": KEYS[1].id})
    with pytest.raises(Refusal) as refused:
        signed_by(open_envelope(json.dumps(data).encode()), {one.id: one.public for one in KEYS[:2]}, 2)
    assert refused.value.code == "bad-signature"


def test_a_broken_signature_beside_enough_good_ones_harms_nobody() -> None:
    data = json.loads(seal("t", b"{}", KEYS[:2]))
    data["signatures"][0]["sig"] = data["signatures"][1]["sig"]
    known = {one.id: one.public for one in KEYS}
    assert signed_by(open_envelope(json.dumps(data).encode()), known, 1) == {KEYS[1].id}


def test_signatures_over_another_type_are_none_over_this_one() -> None:
    data = json.loads(seal("one", b"{}", KEYS[:1])) | {"payloadType": "another"}
    with pytest.raises(Refusal) as refused:
        signed_by(open_envelope(json.dumps(data).encode()), {KEYS[0].id: KEYS[0].public}, 1)
    assert refused.value.code == "bad-signature"


# --- one list after another ---


def test_the_next_list_is_signed_by_the_roots_before_and_by_its_own() -> None:
    current = trust()
    new = Operator(roots=(key("root-3"), key("root-4")))
    together = [*OPERATOR.roots, *new.roots]
    following, payload = next_trust(current, listed(together, operator=new, version=2))
    assert (following.version, following.root_keys()) == (2, {root.id: root.public for root in new.roots})
    assert read_trust(payload) == following
    for signers in (OPERATOR.roots, new.roots, together[1:], together[:3], [*OPERATOR.both, *together[1:]]):
        with pytest.raises(Refusal) as refused:
            next_trust(current, listed(list(signers), operator=new, version=2))
        assert refused.value.code in ("not-enough-signatures", "untrusted-key")


def test_the_same_list_again_changes_nothing() -> None:
    current = trust(version=3)
    following, _ = next_trust(current, listed(list(OPERATOR.roots), version=3))
    assert following is current


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"version": 2, "epoch": 2}, ("rollback", "version")),
        ({"version": 3, "epoch": 3}, ("conflict", "version")),
        ({"version": 5, "epoch": 2}, ("conflict", "version")),
        ({"version": 4, "epoch": 1}, ("rollback", "epoch")),
        ({"version": 4, "epoch": "2"}, ("invalid", "epoch")),
    ],
)
def test_no_list_goes_back_or_skips(over: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        next_trust(trust(version=3, epoch=2), listed(list(OPERATOR.roots), **over))
    assert code_of(refused) == expected


def test_what_the_roots_signed_for_another_purpose_is_no_list() -> None:
    envelope = seal("application/vnd.booth.policy+json", json.dumps(OPERATOR.trust(version=2)).encode(), list(OPERATOR.roots))
    with pytest.raises(Refusal) as refused:
        next_trust(trust(), envelope)
    assert code_of(refused) == ("unsupported", "payloadType")
