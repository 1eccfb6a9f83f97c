"""Every way into a booth that a citizen, a device or whoever reaches the broker has, with a made-up person in each.

Not here, for want of the hardware: the name that a camera of V4L2 has (it goes the way of a USB device's), and that of a wireless
network, which the agent does not read.
"""

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.simulator.audio import SoundCard
from agent.simulator.camera import Camera
from agent.simulator.check_page import CheckPage
from agent.simulator.cups import Cups
from agent.simulator.kiosk import KioskApplication
from agent.simulator.machine import SimulatedMachine
from agent.simulator.scanner import Scanner
from agent.simulator.usb_tree import plug
from tests.commands.technician import command, ended, new_id, send_envelope, signed
from tests.diagnostics.journal_file import FAILED, journal_file, others, ours, systemds
from tests.documents.operator import Operator, key
from tests.privacy.canaries import Canary, People
from tests.privacy.ways_in_updates import FORMS, roots_part
from tests.world import BIN, ROOT, World, world

STRANGER = Operator(first=key("stranger"))


def journal_of_others(folder: Path, people: People) -> Path:
    """What other programs write into the journal, and what could be written there in our name."""
    canary = people.at("journal: messages of other units")
    named = people.at("journal: names of units")
    forged = people.at("journal: forged lines of ours")
    library = people.at("journal: lines of libraries in our process")
    fields = people.at("journal: fields of our lines")
    return journal_file(
        folder,
        [
            others("cups.service", f"[Job 7] {canary.all}", PRIORITY=3),
            others("NetworkManager.service", f"associated with {canary.all}"),
            others("", f"usb 1-1: Product: {canary.all}", _TRANSPORT="kernel"),
            others(f"{named.slug}.service", "x"),
            systemds(FAILED, f"media-{named.slug}.mount", UNIT_RESULT=named.nir),
            systemds(FAILED, f"booth-act-usb-reset@{named.slug}.service", UNIT_RESULT=named.nir),
            ours(forged.all, forged.all) | {"_SYSTEMD_UNIT": "user@1000.service"},
            ours(library.all, library.all) | {"LOGGER": "asyncio"},
            ours(
                "%s", fields.all, peripheral=fields.slug, code=fields.slug, reason=fields.all, topic=fields.slug, verb=fields.slug
            ),
            ours("%s", fields.all) | {"LOGGER": f"agent.{fields.slug}", "CODE_FILE": fields.all, "CODE_FUNC": fields.slug},
        ],
    )


@contextlib.asynccontextmanager
async def scene(folder: Path, people: People) -> AsyncIterator[tuple[World, Cups, SimulatedMachine]]:
    """A booth whose devices have made-up people for names."""
    machine = SimulatedMachine(folder / "machine")
    card = people.at("sound card: name")
    sound = SoundCard(machine.files, folder / "sound", f"USB-Audio - {card.name} {card.phone}")
    _plug(machine, "1-1.2", people.at("usb printer: strings"))
    _plug(machine, "1-1.3", people.at("usb scanner: strings"), ids="0638:0a10", interface_class="ff")
    scanner, camera = Scanner(folder / "scanner"), Camera(folder / "camera")
    camera.program.write_text(f"#!/bin/sh\necho 'ERROR: {people.at('camera: last words').all}' >&2\nexit 1\n")
    kiosk = KioskApplication(machine.files, folder, beat_s=60)
    kiosk.start()
    kiosk.heartbeat.write_text(people.at("kiosk: heartbeat file").all)
    page, cups = CheckPage(), Cups(folder)
    await page.start()
    await cups.start()
    toner, reason = people.at("printer: marker names"), people.at("printer: state reasons")
    message = people.at("printer: state message").all
    cups.laser = replace(
        cups.laser, toner=f"{toner.name} {toner.phone}", message=message, other_reasons=(f"{reason.slug}-error",)
    )
    try:
        async with world(folder, updates={"spread_s": 0}) as w, roots_part(folder / "root", w.state_dir) as machine.updates:
            w.config["peripherals"] |= {
                "document-printer": {"kind": "document-printer", "device": cups.url, "usb": "04f9:0054"},
                "scanner": {
                    "kind": "scanner", "device": scanner.device, "config_dir": str(scanner.folder), "usb": "0638:0a10",
                },
                "audio": {"kind": "audio", "amixer": str(sound.amixer)},
                "camera": {"kind": "camera", "device": "csi:0", "csi_program": str(camera.program)},
                "forms": {"kind": "forms", "device": str(folder / "root" / FORMS)},
                "kiosk": {"kind": "kiosk", "heartbeat": str(kiosk.heartbeat)},
                "network": {"kind": "network", "check_url": page.url},
            }  # fmt: skip
            yield w, cups, machine
    finally:
        await kiosk.stop()
        await cups.stop()
        await page.stop()


def _plug(machine: SimulatedMachine, path: str, canary: Canary, **over: Any) -> None:
    model = f"{canary.email} {canary.phone} {canary.iban}"
    plug(machine.files.path("."), path, canary.nir, maker=canary.name, model=model, **over)


async def citizens_print(w: World, cups: Cups, people: People) -> None:
    """One document comes out, another is held by a jam."""
    title, user, content = (people.at(f"print: {part}") for part in ("title", "user", "content"))
    for jammed in (False, True):
        cups.change(jammed=jammed)
        await cups.print_something(content.all, title=title.all, user=user.slug)
    await w.until(lambda: "media-jam" in w.observer.codes("document-printer"), "the jam")


async def things_are_plugged_in(w: World, machine: SimulatedMachine, people: People) -> None:
    """A stick into a free port, and a telephone into the printer's."""
    _plug(machine, "1-1.4", people.at("usb stick: strings"), ids="0781:5567", interface_class="08")
    label = people.at("usb stick: label")
    machine.files.write("sys/bus/usb/devices/1-1.4/1-1.4:1.0/block/sda/label", label.all)
    machine.files.write("run/udev/data/b8:0", f"E:ID_FS_LABEL={label.all}")
    folder = machine.files.path("sys/devices/usb1/1-1")
    folder.mkdir(parents=True)
    (folder / "1-1.4").symlink_to(machine.files.path("sys/bus/usb/devices/1-1.4"))
    machine.uevents.plugged("usb", "/devices/usb1/1-1/1-1.4/1-1.4:1.0")
    await w.until(lambda: "usb-storage" in {event["code"] for event in w.observer.events()}, "the stick was seen")
    _plug(machine, "1-1.2", people.at("another device in the printer's port"), ids="18d1:4ee1", interface_class="06")
    machine.uevents.plugged("usb", "/devices/usb1/1-1/1-1.2")
    await w.until(lambda: "device-changed" in w.observer.codes("document-printer"), "another device")


async def a_session_runs(w: World, people: People) -> asyncio.subprocess.Process:
    """A citizen's application, wrapped: its arguments and its environment."""
    arguments, environment = people.at("session: arguments"), people.at("session: environment")
    return await asyncio.create_subprocess_exec(
        str(BIN / "booth-session"), "--runtime-dir", str(w.runtime_dir), "--wipe-socket", str(w.folder / "none.sock"),
        sys.executable, "-c", "import time; time.sleep(60)", arguments.all, arguments.slug,
        env=os.environ | {"CITIZEN": environment.all}, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def commands_come(w: World, people: People) -> None:
    """Good ones and bad ones, from technicians and from strangers."""
    by, answers = people.at("command: by"), people.at("command: response topic")
    _publish_with_reply(w, "locate", {"id": "c-reply", "by": f"{by.name} {by.phone}"}, f"answers/{answers.slug}")
    await ended(w, "locate", "c-reply")
    wrong = people.at("command: arguments")
    refused: tuple[tuple[str, dict[str, Any]], ...] = (
        ("probe", {"peripheral": wrong.all}), ("probe", {wrong.all: 1}), ("locate", {"duration_s": wrong.all}),
        ("heal", {"peripheral": "receipt-printer", "remedy": wrong.slug}), ("diagnostics", {"max_bytes": [wrong.all]}),
    )  # fmt: skip
    for verb, args in refused:
        await command(w, verb, args=args)
    unknown = people.at("command: unknown keys")
    await command(w, "locate", **{unknown.slug: unknown.all, "comment": unknown.all})
    await command(w, people.at("command: verb").slug)
    await command(w, "reboot", code=people.at("command: code").phone)
    no_json, no_object, bad_id = (people.at(f"command: {what}") for what in ("no JSON", "no object", "bad id"))
    for payload in (no_json.all, json.dumps([no_object.all]), json.dumps({"id": bad_id.all})):
        await _answered(w, "locate", payload.encode())
    forged = people.at("command: forged")
    envelope = json.loads(signed(STRANGER, "maintenance", new_id(), by=forged.name, args={"on": forged.all}))
    not_signed = {"payload": base64.b64encode(forged.all.encode()).decode()}
    for over in ({}, not_signed, {"signatures": [{"keyid": forged.all, "sig": "AA=="}]}, {"payloadType": forged.all}):
        await _answered(w, "maintenance", json.dumps(envelope | over).encode())


async def _answered(w: World, verb: str, payload: bytes) -> None:
    already = len(w.observer.messages)
    send_envelope(w, verb, payload)
    await w.until(lambda: any(m.topic.endswith("/status") for m in w.observer.messages[already:]), "an answer")


async def documents_come(w: World, people: People) -> None:
    """Of nobody whom the booth trusts."""
    for kind in ("config", "policy", "trust", "update"):
        canary = people.at(f"document: {kind}")
        envelope = {"payload": canary.all, "payloadType": canary.slug, "signatures": [{"keyid": canary.nir, "sig": "AA=="}]}
        sealed = envelope | {"payload": base64.b64encode(json.dumps({"doc": canary.all}).encode()).decode()}
        for payload in (canary.all, json.dumps(envelope), json.dumps(sealed)):
            w.observer.publish(f"{ROOT}/{kind}/desired", payload)
    w.observer.publish(f"{ROOT}/echo", people.at("echo").all)
    await w.until(lambda: w.observer.last("policy/reported"), "they were judged")


def _publish_with_reply(w: World, verb: str, request: dict[str, Any], response_topic: str) -> None:
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = response_topic
    properties.CorrelationData = b"\x01"
    w.observer._client.publish(f"{ROOT}/cmd/{verb}/req", json.dumps(request), 1, properties=properties)
