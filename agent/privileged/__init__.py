"""Root's side of healing: `booth-act NAME` does one act on one slot of a list that only root can write. Start at `__main__.py`.

The daemon has no privilege. It says a peripheral's name to one of systemd's sockets, and reads a verdict. It chooses which act
and when, never on what: device, queue, interface and unit stand in the list. One that was taken over can be a nuisance; it
reaches nothing that is not written down, and not more often than is written down.
"""
