"""Which revision and epoch come next for an audience: what its booths have seen, and what lies on the broker; and whether that is
the newest that there was."""

import argparse
from collections.abc import Collection
from typing import Final

from agent.boothctl.connection import hear_retained
from agent.boothctl.reports import read_reported
from agent.boothctl.terminal import Failed
from agent.boothctl.words import Audience
from agent.contract.documents import LayerName, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.contract.messages import Incoming
from agent.contract.topics import Topic
from agent.documents.trust import read_trust
from agent.system.broker import BrokerAddress

# No booth and no broker may drive the numbers up: what only one of the two knows has to be near what the other does.
LEAP: Final = 1000


class Heard:
    """Nothing of this is signed for us: it proposes a number, and the operator sees it. `desired`: the message that lies
    there."""

    def __init__(self, kind: str, layer: LayerName) -> None:
        self._kind = kind
        self._layer = layer
        self.seen_rev = 0
        self.desired_rev = 0
        self.desired_epoch = 0
        self.desired = b""
        self.trust_epoch = 0

    def take(self, message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is None:
            return
        try:
            if topic.kind == "reported":
                self._reported(topic, message.payload)
            elif topic.names == ("trust",):
                self.trust_epoch = max(self.trust_epoch, read_trust(open_envelope(message.payload).payload).epoch)
            else:
                self.desired = message.payload
                document = read_document(open_envelope(message.payload).payload)
                self.desired_rev, self.desired_epoch = document.rev, document.epoch
        except Refusal:
            return  # it is nobody's document

    def _reported(self, topic: Topic, payload: bytes) -> None:
        reported = read_reported(topic, payload)
        layer = None if reported is None else reported["layers"].get(self._layer)
        if layer is not None:
            self.seen_rev = max(self.seen_rev, layer["seen_rev"])

    def epoch(self) -> int:
        return max(self.trust_epoch, self.desired_epoch) or 1

    def rev(self, epoch: int) -> int:
        """The next one. A new epoch begins anew, and booths do not say of which one theirs is: raises `Failed` in doubt."""
        desired = self.desired_rev if self.desired_epoch == epoch else 0
        if abs(self.seen_rev - desired) > LEAP:
            raise Failed(
                f"no revision is proposed: booths have seen {self.seen_rev}, and on the broker is {desired} of epoch {epoch}; "
                "give --rev"
            )
        return max(self.seen_rev, desired) + 1


async def settle(options: argparse.Namespace, address: BrokerAddress, kind: str, audience: Audience) -> tuple[int, int]:
    """`--rev` and `--epoch`, each asked of the broker where it is `auto`."""
    if options.rev is not None and options.epoch is not None:
        return options.rev, options.epoch
    heard = await hear(address, kind, audience, options.wait)
    epoch = heard.epoch() if options.epoch is None else options.epoch
    return (heard.rev(epoch) if options.rev is None else options.rev), epoch


async def hear(address: BrokerAddress, kind: str, audience: Audience, wait_s: float) -> Heard:
    """Raises `Failed` where the broker does not answer."""
    heard = Heard(kind, audience.layer)
    trust = [f"{place}/trust/desired" for place in audience.places()]
    await hear_retained(address, [f"{audience.booths}/{kind}/reported", audience.desired(kind), *trust], heard.take, wait_s)
    return heard


def refuse_old(lying: tuple[int, int], newest: tuple[int, int], what: str, audience: Audience, keep: Collection[int]) -> None:
    """Raises `Failed` where what lies there is older than what was there already, and `keep` does not name its revision. Its
    signatures are genuine for ever: a broker that serves it again would have it signed anew, over what has replaced it since.

    `lying`, `newest`: revision and epoch, of what lies there; the newest revision that booths have seen, and the epoch of today.
    `what`: the sections that would be kept.
    """
    (rev, epoch), (seen_rev, now_epoch) = lying, newest
    if rev in keep or (epoch >= now_epoch and rev >= seen_rev):
        return
    newer = f"epoch {now_epoch} has begun" if epoch < now_epoch else f"booths have seen revision {seen_rev}"
    raise Failed(
        f"{what} of revision {rev}, epoch {epoch}, lies at {audience.topic} and would be signed anew, but {newer}: "
        "it is an old document that the broker has gone back to",
        f"look at it: boothctl update get {audience.topic}; if it is what you want, --keep-rev {rev} says so; "
        "else publish by hand what you want there, with boothctl update push",
    )
