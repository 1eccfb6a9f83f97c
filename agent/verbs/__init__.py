"""The command verbs, one declaration each: arguments, who may ask, how long it may take, what it does. Contract §8.

A new verb is one more `Verb` in a module of this package: `B/meta`, `boothctl` and the reference follow from it.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from agent.verbs import booth, checks, repair
from agent.verbs.declaration import Verb


@cache
def declared() -> Mapping[str, Verb]:
    """Every verb by its name."""
    return MappingProxyType({verb.name: verb for module in (checks, repair, booth) for verb in module.VERBS})
