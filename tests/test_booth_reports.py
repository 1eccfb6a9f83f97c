"""The main job, end to end: a citizen's paper ends, the shopkeeper's light turns, a technician sees it."""

from pathlib import Path

from tests.world import world


async def test_paper_out_reaches_health_service_event_alarm_and_light(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        see = w.observer
        # Whoever connects late says `online` first, as at every connection, and all health behind it.
        health = await w.until(lambda: see.last("health/receipt-printer"), "its health")
        assert health["status"] == "ok", "online means that all was judged"

        w.printer.change(paper="out")
        health = await w.until(lambda: see.codes("receipt-printer") and see.last("health/receipt-printer"))
        assert health["status"] == "fault"
        assert health["findings"][0] | {"since": None} == {
            "code": "media-empty", "severity": "fault", "fix_by": "shopkeeper", "since": None, "detail": {},
        }  # fmt: skip
        assert health["facts"]["paper"] == "empty"
        await w.until(lambda: see.last("service/print") == "down")
        await w.until(lambda: see.last("state")["services"]["print"] == "down")
        alarm = await w.until(lambda: see.last("alarm/receipt-printer/media-empty"))
        assert alarm["services"] == ["print"]
        assert alarm["text"]["fr"] == "Plus de papier dans l'imprimante à tickets."
        await w.until(lambda: see.last("led") == "your-turn")

        w.printer.change(paper="plenty")
        await w.until(lambda: see.last("alarm/receipt-printer/media-empty") is None, patience_s=5)
        await w.until(lambda: see.last("led") == "ok" and see.last("service/print") == "ok")
        await w.until(lambda: [e["data"]["change"] for e in see.events() if e["code"] == "media-empty"] == ["raised", "cleared"])


async def test_a_clean_stop_says_asleep_and_a_kill_leaves_the_last_will(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        assert await agent.stop() == 0
        state = await w.until(lambda: w.observer.last("state")["state"] == "asleep" and w.observer.last("state"))
        assert state["services"] == {"print": "unknown"}

        agent = await w.start_agent()
        session = w.observer.last("state")["session"]
        await agent.kill()
        lost = await w.until(lambda: w.observer.last("state")["state"] == "lost" and w.observer.last("state"))
        assert lost["session"] == session
        assert lost["services"] == {"print": "unknown"}
