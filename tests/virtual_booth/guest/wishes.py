"""What whoever took the agent over would try: lists for `hijacked`, of words or of lines. Nothing of it does lasting harm."""

import ctypes
from typing import Final

# To an act's socket, one to a connection.
REQUESTS: Final = (
    b"../receipt-printer\n",
    b"receipt-printer/../hub\n",
    b"/etc/booth-agent/slots.toml\n",
    b"usb-1\n",
    b"none\nreceipt-printer\n",
    b"receipt-printer;reboot\n",
    b"$(reboot)\n",
    b"--slots=/tmp/slots.toml\n",
    b"-h\n",
    b"receipt-printer\r\n",
    b"receipt-printer",
    b"\x00receipt-printer\n",
    b"RECEIPT-PRINTER\n",
    b" receipt-printer\n",
    b'{"slot":"receipt-printer"}\n',
    b"\n",
    b"\xff\xfe\n",
    b"",
    b"a" * 65 + b"\n",
    b"a" * 1_000_000 + b"\n",
)
WRITES: Final = """
/etc/booth-agent/slots.toml /etc/booth-agent/agent.toml /opt/booth-agent/bin/booth-act /etc/passwd /etc/shadow
/opt/booth-agent/current/pyvenv.cfg /etc/systemd/system/booth-agent.service /etc/systemd/system/booth-act-reboot@.service
/etc/udev/rules.d/69-booth-slots.rules /usr/lib/tmpfiles.d/tmp.conf /proc/sysrq-trigger /proc/sys/kernel/core_pattern
/proc/sys/kernel/modprobe /sys/fs/cgroup/cgroup.procs /sys/kernel/uevent_helper /run/udev/control /dev/kmsg
"""
FOLDERS: Final = """
/etc/booth-agent /run/booth-acts /run/booth-act-limits /var/lib/booth-acts /opt/booth-agent/bin /opt /usr/bin
/etc/systemd/system /run/systemd/system /run/systemd/transient /etc/udev/rules.d /run/udev/rules.d /etc/cron.d /etc/sudoers.d
/etc/polkit-1/rules.d /etc/sysusers.d /run/tmpfiles.d /etc/modprobe.d /etc/profile.d /root
/etc/systemd/system/booth-agent.service.d /etc/dbus-1/system.d /lib/modules /boot /usr/lib/cups/backend
"""
READS: Final = """
/etc/shadow /etc/gshadow /etc/sudoers /etc/booth-agent/operator.key /proc/1/environ /proc/1/mem /proc/kcore /dev/mem /dev/port
/dev/vda /dev/console /dev/watchdog /dev/rfkill /dev/uinput /dev/loop-control /dev/fuse /dev/net/tun /dev/input/event0
/dev/vcs1 /dev/hidraw0 /dev/snapshot /dev/nvram /dev/usbmon0
"""
# Below /: any of the files.
READS_ANY: Final = """
var/spool/cups/?0* var/cache/cups/* etc/cups/cups-files.conf run/log/journal/*/* var/log/journal/*/* root/* home/*/*
"""
WRITES_ANY: Final = """
sys/bus/usb/devices/*/authorized sys/bus/usb/devices/*/remove sys/bus/usb/devices/usb*/authorized_default
sys/bus/usb/devices/*-0:1.0/*-port*/disable sys/bus/usb/drivers/*/unbind sys/bus/usb/drivers_probe sys/class/net/*/ifalias
sys/block/*/queue/scheduler sys/power/state sys/kernel/debug/* sys/class/rfkill/*/soft
"""
COMMANDS: Final = """
systemctl stop cups; systemctl start booth-act-reboot@x.service; systemctl restart booth-act-usb-reset.socket
systemctl edit --runtime --full cups; systemctl set-property --runtime booth-acts.slice CPUQuota=90%; systemctl daemon-reload
systemctl enable debug-shell; systemctl kill systemd-journald; systemctl reboot; systemctl poweroff; systemctl rescue
systemctl set-environment A=B; systemd-run --pipe id; systemd-run --uid=0 id; loginctl terminate-user root; sudo -n id
su -c id root; pkexec --disable-internal-agent id; setpriv --reuid=0 id; chroot / id; unshare -r id; unshare -m id
mount -t tmpfs none /tmp; mount -o remount,rw /; umount /repository; nsenter -t 1 -m id; modprobe dummy
rmmod usblp; insmod /lib/modules/x.ko; udevadm control --reload; udevadm trigger --action=add; dmesg; date -s 2001-01-01
timedatectl set-time 2001-01-01; hostnamectl hostname taken; sysctl -w kernel.panic=1; hwclock -w; ip link set eth0 down
ip address add 10.9.9.9/24 dev lo; ip route add 10.9.9.0/24 dev lo; nft flush ruleset; networkctl down eth0
nmcli networking off; rfkill block all; journalctl --vacuum-size=1M; journalctl --rotate
lpadmin -p taken -v file:/etc/passwd -m raw; cupsdisable forms; cancel -a forms; cupsctl --remote-admin; cupsreject forms
"""
# Service, object and interface without what they have in common, method and arguments.
CALLS: Final = """
systemd1 /org/freedesktop/systemd1 systemd1.Manager StartUnit ss cups.service replace
systemd1 /org/freedesktop/systemd1 systemd1.Manager StartTransientUnit ssa(sv)a(sa(sv)) x.service fail 0 0
systemd1 /org/freedesktop/systemd1 systemd1.Manager KillUnit ssi cups.service all 15
systemd1 /org/freedesktop/systemd1 systemd1.Manager SetUnitProperties sba(sv) cups.service true 1 CPUWeight t 10
systemd1 /org/freedesktop/systemd1 systemd1.Manager EnableUnitFiles asbb 1 debug-shell.service true true
systemd1 /org/freedesktop/systemd1 systemd1.Manager Reboot
systemd1 /org/freedesktop/systemd1 systemd1.Manager Reexecute
login1 /org/freedesktop/login1 login1.Manager Reboot b false
login1 /org/freedesktop/login1 login1.Manager PowerOff b false
login1 /org/freedesktop/login1 login1.Manager SetRebootParameter s x
timedate1 /org/freedesktop/timedate1 timedate1 SetTime xbb 1000000000000000 false false
hostname1 /org/freedesktop/hostname1 hostname1 SetHostname sb taken false
network1 /org/freedesktop/network1 network1.Manager Reload
NetworkManager /org/freedesktop/NetworkManager NetworkManager Enable b false
PolicyKit1 /org/freedesktop/PolicyKit1/Authority PolicyKit1.Authority RevokeTemporaryAuthorizationById s x
"""
_BYTE: Final = ctypes.c_char()
_ONE_BYTE: Final = (ctypes.c_size_t * 2)(ctypes.addressof(_BYTE), 1)  # struct iovec
# x86-64, linux/asm/unistd_64.h; with arguments that do no harm where they are allowed.
SYSTEM_CALLS: Final = {
    "ptrace": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, _ONE_BYTE, 1, _ONE_BYTE, 1, 0),
    "setuid": (105, 0),
    "setgid": (106, 0),
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0),
    "unshare, a user's namespace": (272, 0x10000000),
    "unshare, a mount namespace": (272, 0x00020000),
    "chroot": (161, b"/"),
    "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot, Ctrl-Alt-Del off": (169, 0xFEE1DEAD, 672274793, 0),
    "settimeofday": (164, 0, (ctypes.c_int * 2)()),
    "sethostname": (170, b"booth", 5),
    "iopl": (172, 3),
    "bpf": (321, 0, (ctypes.c_uint32 * 20)(2, 4, 4, 1), 80),
    "perf_event_open": (298, (ctypes.c_uint32 * 32)(1, 128), -1, 0, -1, 0),
    "userfaultfd": (323, 0),
    "setpriority, first of all": (141, 0, 0, -20),
    "swapon": (167, b"/dev/vda", 0),
    "acct": (163, b"/tmp/acct"),
}
