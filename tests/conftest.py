"""Every test, async ones too, must leave nothing behind: no task, no child process, no thread."""

import asyncio
import inspect
import signal
import threading
from typing import Any

import pytest
from hypothesis import settings

# A run in the background has these ignored, and every program that a test starts and then signals would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


# A property that holds is not late: the machine may be busy with three other files.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

TEST_DEADLINE_S = 120.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests on a loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(_run(pyfuncitem.obj, arguments))
    return True


async def _run(test: Any, arguments: dict[str, Any]) -> None:
    async with asyncio.timeout(TEST_DEADLINE_S):
        await test(**arguments)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Any:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not left, f"threads left behind: {left}"


# They are begun first: each file runs in one process, and what is begun last is waited for alone.
_LONGEST = (
    "test_install.py", "test_healed_faults.py", "test_bundle.py", "test_store_faults.py", "test_broker_faults.py",
    "test_network_faults.py", "test_contract_of_all.py", "test_healable.py", "test_command_faults.py", "test_canary.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)
