"""A session that never ends is told once it has lasted too long, and unsaid when it is over."""

import asyncio

from agent.engine.sessions import LongSession
from tests.engine.clinic import Citizen
from tests.virtual_time import virtual_run


def test_only_a_session_that_every_look_found_for_so_long_is_endless() -> None:
    citizen, now_s, changes = Citizen(), [0.0], 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    session = LongSession(citizen, 14_400.0, lambda: now_s[0], changed)

    def looked(at_s: float, *, held: bool) -> bool:
        now_s[0], citizen.there = at_s, held
        session.look()
        return session.endless

    assert not looked(0, held=False)
    assert not looked(300, held=True)
    assert not looked(14_000, held=True)
    assert not looked(14_300, held=False)  # she left, and somebody else came
    assert not looked(14_600, held=True)
    assert changes == 0
    assert looked(14_600 + 14_400, held=True)
    assert looked(40_000, held=True)
    assert changes == 1
    assert not looked(40_300, held=False)
    assert changes == 2
    citizen.openable = False  # which counts as a citizen's everywhere else
    assert not looked(40_600, held=True)
    assert not looked(90_000, held=True)
    assert (session.openable, changes) == (False, 3)
    citizen.openable = True
    assert not looked(90_300, held=False)
    assert (session.openable, changes) == (True, 4)


def test_whoever_ends_it_sees_within_five_seconds_that_it_is_over() -> None:
    async def story() -> None:
        citizen = Citizen()
        citizen.there = True
        session = LongSession(citizen, 600.0, asyncio.get_running_loop().time, lambda: None)
        looking = asyncio.create_task(session.run())
        await asyncio.sleep(1000)
        seen = [session.endless]
        citizen.there = False
        await asyncio.sleep(5)
        seen.append(session.endless)
        looking.cancel()
        assert seen == [True, False]

    virtual_run(story)
