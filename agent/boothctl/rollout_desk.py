"""The documents of a rollout: signed and published over what lies on the broker, whose other sections stay."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from agent.boothctl.envelopes import Terms, statement
from agent.boothctl.gather import Listener
from agent.boothctl.push_acts import not_signed
from agent.boothctl.revisions import LEAP, refuse_old
from agent.boothctl.rollout_sight import KIND, Lying, Sight
from agent.boothctl.terminal import EXIT_NO_ANSWER, Failed, note
from agent.boothctl.words import Audience
from agent.contract.messages import Message
from agent.contract.topics import ALL, PREFIX
from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey, seal

FLEET: Final = Audience(ALL, ALL)

_AT_ONCE: Final = 8  # fewer than a connection has room for
_REFUSED: Final = 0x80  # reason codes from here on are errors (MQTT 5, 2.4)
_NAMED: Final = 5  # documents in one line
_TRIES: Final = 5  # over a connection that ends and comes back


def audience_at(root: str) -> Audience:
    """Of the topic before `/update/desired`."""
    area, booth = root.removeprefix(f"{PREFIX}/").split("/")
    return Audience(area, booth)


class Desk:
    """`section`: what is rolled out, of the kind that `sight` looks at. `epoch`: None for that of the newest trust list. `keep`:
    revisions whose other sections stay, though booths have seen newer ones."""

    def __init__(
        self, sight: Sight, section: Mapping[str, Any], keys: list[SigningKey], epoch: int | None, keep: Collection[int] = ()
    ) -> None:
        self._sight = sight
        self._section = section
        self._keys = keys
        self._epoch = epoch
        self._keep = keep

    @property
    def epoch(self) -> int:
        lying = self._sight.lying.get(FLEET.topic)
        return self._epoch or max(self._sight.trust_epoch, 0 if lying is None else lying.epoch) or 1

    def names(self, root: str) -> bool:
        """Whether what lies for an audience says anything of this kind."""
        lying = self._sight.lying.get(root)
        return lying is not None and self._sight.kind in lying.doc

    def carries(self, root: str) -> bool:
        """Whether what lies for an audience is what is rolled out."""
        lying = self._sight.lying.get(root)
        return lying is not None and lying.epoch == self.epoch and lying.doc.get(self._sight.kind) == self._section

    def rev(self, root: str) -> int:
        """Of what lies there; 0 for nothing, or another epoch's."""
        lying = self._sight.lying.get(root)
        return lying.rev if lying is not None and lying.epoch == self.epoch else 0

    def next_rev(self, root: str) -> int:
        """Raises `Failed` where booths and broker are too far apart: no booth may drive up what others have to follow."""
        seen, lies = self._seen_rev(root), self.rev(root)
        if audience_at(root).layer != "booth" and abs(seen - lies) > LEAP:
            raise Failed(
                f"which revision is next for {root}? Booths have seen {seen}, and {lies} lies there",
                "publish one there by hand: boothctl update push … --rev N",
            )
        return max(seen, lies) + 1

    def _seen_rev(self, root: str) -> int:
        """The newest revision that booths of this audience have seen, of whichever epoch."""
        audience = audience_at(root)
        if audience.layer == "booth":
            booth = self._sight.booths.get(audience.booth)
            return 0 if booth is None or booth.told is None else booth.told.seen.get("booth", 0)
        return self._sight.seen_rev(audience.layer, None if audience.layer == "fleet" else audience.area)

    def others(self, root: str) -> dict[str, Any]:
        """The other sections that lie for an audience, which stay. Raises `Failed` where they may not be signed anew."""
        lying = self._sight.lying.get(root)
        doc = {name: value for name, value in (lying.doc if lying is not None else {}).items() if name != self._sight.kind}
        if lying is not None and doc:
            names = " and ".join(doc)
            if not lying.signed:
                raise not_signed(KIND, f"{names} at {root}")
            newest = (self._seen_rev(root), self.epoch)
            refuse_old((lying.rev, lying.epoch), newest, names, audience_at(root), self._keep)
        return doc

    async def publish(self, listener: Listener, revisions: Mapping[str, int], wait_s: float, *, section: bool = True) -> None:
        """Put the section into the document of each audience, or take it out. Raises `Failed`, before anything is published where
        what lies at one of them may not stay."""
        roots = list(revisions)
        docs = {root: self.others(root) for root in roots}
        self._say_what_stays(docs)
        for start in range(0, len(roots), _AT_ONCE):
            some = roots[start : start + _AT_ONCE]
            if section:
                docs |= {root: {**docs[root], self._sight.kind: self._section} for root in some}
            await asyncio.gather(*(self._publish(listener, root, revisions[root], docs[root], wait_s) for root in some))

    def _say_what_stays(self, docs: Mapping[str, Mapping[str, Any]]) -> None:
        some = [f"{' and '.join(doc)} of revision {self._sight.lying[root].rev} at {root}" for root, doc in docs.items() if doc]
        if some:
            more = f", and at {len(some) - _NAMED} more" if len(some) > _NAMED else ""
            note(f"stays, and is signed anew: {', '.join(some[:_NAMED])}{more}")

    async def _publish(self, listener: Listener, root: str, rev: int, doc: dict[str, Any], wait_s: float) -> None:
        audience = audience_at(root)
        payload = statement(doc, Terms(audience, rev, self.epoch))
        message = Message(audience.desired(KIND), seal(payload_type(KIND), payload, self._keys), retain=True)
        for _ in range(_TRIES):
            reason = await listener.publish(message, wait_s)
            if reason is not None and reason >= _REFUSED:
                raise Failed(f"the broker refuses a message at {message.topic} (MQTT reason 0x{reason:02x})")
            if reason is not None:
                self._sight.lying[root] = Lying(rev, self.epoch, doc)
                return
            await asyncio.sleep(1)
        raise Failed(f"the broker has not acknowledged the message at {message.topic}", status=EXIT_NO_ANSWER)
