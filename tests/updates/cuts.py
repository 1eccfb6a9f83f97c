"""Play an update again and again, cut off at another moment each time, and go on from there as a booth does when the power is
back. `python -m tests.updates.cuts FOLDER STORY`; one line of JSON comes out."""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.updates.words import Answer
from tests.updates.story import KINDS, Root

At = Callable[[str], None]
_MOST: Final = 40  # questions, until a booth has to be at rest


@dataclass(frozen=True)
class Story:
    """`kind` becomes 1.1 at the end, or stays 1.0. `proves`: the new version says that it is healthy."""

    kind: str
    ends_with: str
    phase: str
    proves: bool = True
    deadline: bool = False


STORIES = {
    "committed": Story("agent", "1.1", "committed"),
    "never-starts": Story("agent", "1.0", "rolled-back", proves=False),
    "unhealthy": Story("agent", "1.0", "rolled-back", proves=False, deadline=True),
    "forms": Story("forms", "1.1", "committed"),
}


def play(root: Root, story: Story, at: At) -> Answer:
    """From wherever it is, as the daemon and systemd do, to rest."""
    root.publish({story.kind: "1.1"}, at, rev=1)  # what is retained is delivered at each connection
    answer = root.updating(at).status()
    for _ in range(_MOST):
        if not answer.tasks:
            return answer
        [task] = answer.tasks
        if task.todo == "fetch":
            root.fetch(task)
            answer = root.updating(at).stage(task.kind)
        elif task.todo == "switch":
            answer = root.updating(at).switch(task.kind)
            root.updating(at).start()
        elif story.proves:
            answer = root.updating(at).healthy(task.version, online=True)
        elif story.deadline:
            root.updating(at).deadline()
            answer = root.updating(at).status()
        else:  # it crashes, and systemd starts it again
            root.updating(at).start()
            answer = root.updating(at).status()
    raise AssertionError("it never comes to rest")


def cut(folder: Path, story: Story, number: int) -> str | None:
    """Die at a moment, look, and go on. Returns what the moment is called; None where the story is over before."""
    root = Root(folder)
    root.prepare()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        left = number

        def at(moment: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.write(writer, moment.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        play(root, story, at)
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        moment = stream.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return None
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, os.waitstatus_to_exitcode(status)
    other = "forms" if story.kind == "agent" else "agent"
    assert root.in_use(story.kind) in ("1.0", "1.1"), "a whole one runs, whatever was cut"
    assert root.in_use(other) == "1.0"
    root.boot("second")
    root.updating().start()
    assert root.in_use(story.kind) in ("1.0", "1.1")
    answer = play(root, story, lambda _moment: None)
    assert root.in_use(story.kind) == story.ends_with, (moment, root.in_use(story.kind))
    assert answer.reported.phase == story.phase, (moment, answer.reported)
    assert not (folder / "var/lib/booth-update/trial").exists()
    assert not (folder / "var/lib/booth-update/incoming.tar").exists()
    assert not (folder / KINDS[story.kind].place / "slots/incoming").exists()
    return moment


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    moments = []
    for number in range(1000):
        moment = cut(folder / str(number), STORIES[name], number)
        if moment is None:
            break
        moments.append(moment)
    print(json.dumps(moments))


if __name__ == "__main__":
    main()
