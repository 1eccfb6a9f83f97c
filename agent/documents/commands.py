"""A signed command: whether it may be believed, and what it asks. Contract §8."""

from agent.contract.command import PAYLOAD_TYPE, SignedRequest
from agent.contract.decode import BadJson, decode_object
from agent.contract.documents import Refusal, invalid
from agent.contract.envelope import open_envelope
from agent.contract.typed import Invalid, build
from agent.documents.trust import Trust, signed_by


def signed_request(message: bytes, trust: Trust | None, booth: str, verb: str) -> SignedRequest:
    """The request in an envelope that was published for `verb` of `booth`. Raises `Refusal`."""
    envelope = open_envelope(message)
    if trust is None:
        raise Refusal("untrusted-key", "", "this booth has no trust.json beside its agent.toml: it believes no signature")
    signed_by(envelope, trust.keys_for("command"), trust.thresholds.command)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Refusal("unsupported", "payloadType", f"here {PAYLOAD_TYPE} is read, not {envelope.payload_type[:80]!r}")
    try:
        request = build(SignedRequest, decode_object(envelope.payload))
    except BadJson as error:
        raise Refusal("bad-json", "", str(error)) from error
    except Invalid as error:
        raise invalid(error.problems) from error
    if request.booth != booth:
        raise Refusal("wrong-audience", "booth", f"it is for {request.booth}, and was published for {booth}")
    if request.verb != verb:
        raise Refusal("wrong-audience", "verb", f"it asks for {request.verb}, and was published for {verb}")
    return request
