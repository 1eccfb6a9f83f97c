"""Rows 11 and 68 of the fault catalogue, for documents: many of them, and a flood of what are none."""

import time
from pathlib import Path

from tests.documents.published import configured, said
from tests.faults.documents_load import children, growth_kib, resident_kib
from tests.world import ROOT


async def test_f68_a_hundred_documents_leave_no_memory_no_process_and_no_file_behind(tmp_path: Path) -> None:
    """A thousand: `make bench`."""
    async with configured(tmp_path) as (w, _):
        [agent] = w.agents
        assert await growth_kib(w, agent, 100) <= 1024


async def test_f11_a_flood_of_desired_messages_neither_stops_nor_fills_the_agent(tmp_path: Path) -> None:
    async with configured(tmp_path) as (w, _):
        [agent] = w.agents
        before = resident_kib(agent.pid)
        for number in range(10_000):
            w.observer._client.publish(f"{ROOT}/config/desired", f'{{"payload":"{number}"}}', 0)
        await w.until(lambda: len(said(w)) > 3, "it goes on answering")
        start_s = time.monotonic()
        w.printer.change(paper="out")
        await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "health, through the flood", 10)
        assert time.monotonic() - start_s < 5
        assert "subscribe-denied" not in w.observer.codes("booth"), "its echo is heard"
        assert resident_kib(agent.pid) - before < 4 * 1024
        assert len(children(agent)) <= 1
