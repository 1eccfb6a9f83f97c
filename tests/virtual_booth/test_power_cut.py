"""The power goes and comes back. The last of all: whatever the other tests had started is gone."""

from tests.virtual_booth.booth import VirtualBooth


def test_what_was_synced_outlives_a_power_cut(installed: VirtualBooth) -> None:
    before = installed.run("cat /proc/sys/kernel/random/boot_id")
    installed.run("echo kept > /var/lib/kept && sync /var/lib/kept && echo lost > /var/lib/lost && echo gone > /run/gone")
    installed.cut_power()
    installed.boot()
    assert installed.run("cat /proc/sys/kernel/random/boot_id") != before
    assert installed.run("cat /var/lib/kept") == "kept\n"
    assert installed.try_run("grep -q lost /var/lib/lost")[0] != 0
    assert installed.try_run("test -e /run/gone")[0] != 0
