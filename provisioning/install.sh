#!/bin/sh
# Install the booth agent on this machine, as root: `make install`. Again, for a new version or after a change of a file here.
#
#   DESTDIR=DIR   into a tree that becomes a booth's root later; nothing is started, and no user is made: systemd-sysusers and
#                 systemd-tmpfiles do that when the booth boots.
#   WHEELS=DIR    without a network, from a folder that `make wheels` has filled
#   FORMS=DIR     the first forms, a folder that `boothctl forms check` finds good; provisioning/forms has specimens, for a trial
#   PYTHON=FILE   the booth's Python, if not /usr/bin/python3
#
# Configuration that is there is never touched.
set -eu
umask 022

absolute() { case $1 in '' | /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
root=$(absolute "${DESTDIR:-}")
wheels=$(absolute "${WHEELS:-}")
python=${PYTHON:-/usr/bin/python3}
place=/opt/booth-agent
fresh=$root$place/base.new
cd "$(dirname "$0")/.."

# What is called $1 is called $2, and the other way round: at one instant where the file system knows that (ext4, btrfs, tmpfs; an
# overlay does not for what lies below it).
exchange() {
    "$python" - "$1" "$2" << 'END' && return
import ctypes, os, sys
# As fcntl.h and linux/fs.h have them: AT_FDCWD, RENAME_EXCHANGE.
sys.exit(ctypes.CDLL(None).renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), 2) != 0)
END
    mv -T "$2" "$2.old"
    mv -T "$1" "$2"
    mv -T "$2.old" "$1"
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "Installing needs root: run this as root, or into a folder with DESTDIR=DIR." >&2
    exit 1
fi

# --- what the machine lacks ---
sh provisioning/system-packages python3 python3-venv
[ -n "$root" ] || sh provisioning/system-packages dbus libsane1 cups-daemon cups-client alsa-utils nftables

work=$(mktemp -d)
trap 'rm -rf "$work" "$fresh"' EXIT
trap 'exit 1' HUP INT TERM

# --- the wheels: pinned, with their hashes where they come from the network ---
if [ -z "$wheels" ]; then
    wheels=$work/wheels
    WHEELS=$wheels PYTHON=$python sh provisioning/wheels.sh
fi
for lock in build booth base; do
    sed -e '/^ *--hash=/d' -e 's/ *\\$//' "requirements/$lock.lock" > "$work/$lock.txt"
done
"$python" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@" --no-index --find-links "$wheels"; }
pip install -r "$work/build.txt"
# From a copy: the sources may be read-only, and building writes beside them. A booth has no use for the simulator.
mkdir "$work/source"
cp -R agent setup.cfg pyproject.toml README.md LICENSE "$work/source"
rm -rf "$work/source/agent/simulator"
pip wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work/source"

# --- the base: root's part of updates, which no update changes. Beside the old one, which works until the new one is whole. All
# of this is in the folder of a version before there were slots, too: nothing of that goes before the agent is in its slot ---
mkdir -p "$root$place"
rm -rf "$fresh"
"$python" -m venv --without-pip --prompt booth-agent "$fresh"
pip --python "$fresh/bin/python" install --no-compile --no-deps -r "$work/base.txt"
pip --python "$fresh/bin/python" install --no-compile --no-deps --find-links "$work" booth-agent
# Programs and pyvenv.cfg name the folder in which they were made.
"$python" - "$fresh" "$place/base" << 'END'
import pathlib, sys
made, place = (name.encode() for name in sys.argv[1:])
folder = pathlib.Path(sys.argv[1])
for file in (folder / "pyvenv.cfg", *(folder / "bin").iterdir()):
    if not file.is_symlink() and made in (text := file.read_bytes()):
        file.write_bytes(text.replace(made, place))
END
# Compiled here: a unit cannot write there. The files are named as they will be, for tracebacks.
"$fresh/bin/python" -m compileall -q -s "$fresh" -p "$place/base" "$fresh/lib"
sync -f "$fresh"  # a power cut leaves no files without what is in them
if [ -e "$root$place/base" ]; then
    exchange "$fresh" "$root$place/base"
else
    mv -T "$fresh" "$root$place/base"
fi
rm -rf "$fresh" "$root$place/base.old"

# --- the first slot, or the other one: by the same program, and from the same files, as an update ---
"$python" provisioning/bundle.py --local --wheels "$wheels" --own "$(echo "$work"/booth_agent-*.whl)" --out "$work/release"
version=$("$root$place/base/bin/python3" -I -c 'import agent; print(agent.VERSION)')
"$root$place/base/bin/python3" -I -m agent.privileged.update --root "${root:-/}" install agent "$work/release" "$version"
# Whatever fails, and whenever the power goes: `bin` leads to a whole agent, the old one or the new one.
if [ ! -L "$root$place/bin" ]; then
    rm -rf "$root$place/bin.new"
    ln -s current/bin "$root$place/bin.new"
    if [ -e "$root$place/bin" ]; then
        exchange "$root$place/bin.new" "$root$place/bin"
    else
        mv -T "$root$place/bin.new" "$root$place/bin"
    fi
    sync -f "$root$place"
fi
(cd "$root$place" && rm -rf bin.new bin.old lib lib64 include share pyvenv.cfg)  # of a version before there were slots
# No citizen is to be given a specimen: forms are laid where whoever installs names some, and none has been published since.
forms=${FORMS:-}
[ -z "$forms" ] || [ -e "$root/var/lib/booth-forms/current" ] ||
    "$root$place/base/bin/python3" -I -m agent.privileged.update --root "${root:-/}" install forms "$forms" installed
# Its lock, in a folder that no running system has.
[ -z "$root" ] || rm -rf "$root/run/booth-update"

# --- the system's files ---
sh provisioning/installed-files | while read -r source target; do
    install -D -m 0644 "$source" "$root$target"
done

# --- the configuration, where there is none ---
configured=yes
[ -d "$root/etc/booth-agent" ] || install -d -m 0750 "$root/etc/booth-agent"
if [ ! -e "$root/etc/booth-agent/agent.toml" ]; then
    configured=no
    install -m 0644 provisioning/agent.toml "$root/etc/booth-agent/agent.toml"
fi
[ -e "$root/etc/booth-agent/slots.toml" ] || install -m 0644 provisioning/slots.toml "$root/etc/booth-agent/slots.toml"

# The policy begins to count when the booth starts next: whoever installs it by ssh is not cut off in the middle.
sockets=$(cd systemd && echo booth-act-*.socket booth-journal.socket booth-update-serve.socket)
lockdown=$(cd systemd && echo booth-lockdown-*.socket booth-lockdown-apply.service booth-lockdown-check.timer \
    booth-lockdown-check.path booth-pages.path booth-pages.timer)
if [ -n "$root" ]; then
    # An image must not be open because somebody forgot to type a unit's name.
    # shellcheck disable=SC2086  # lists of words, on purpose
    ! command -v systemctl > /dev/null || systemctl --root="$root" --quiet enable booth-agent.service $sockets $lockdown
    exit 0
fi

# --- this machine: user, groups, folders, devices, units ---
systemd-sysusers booth-agent.conf
systemd-tmpfiles --create booth-agent.conf
if [ ! -d /run/systemd/system ]; then
    # An image that is made in a chroot.
    # shellcheck disable=SC2086  # lists of words, on purpose
    SYSTEMD_OFFLINE=1 systemctl --quiet enable booth-agent.service $sockets $lockdown
    exit 0
fi
udevadm control --reload
for subsystem in usb usbmisc tty video4linux leds gpio; do
    udevadm trigger --action=add --subsystem-match="$subsystem"
done
systemctl daemon-reload
# shellcheck disable=SC2086
systemctl --quiet enable booth-agent.service $sockets $lockdown
# shellcheck disable=SC2086
systemctl restart $sockets
# shellcheck disable=SC2086
systemctl try-restart booth-light.service booth-button.service $lockdown
if [ "$configured" = yes ] && /opt/booth-agent/bin/booth-agent check-config > /dev/null 2>&1; then
    systemctl reset-failed booth-agent.service 2> /dev/null || true
    systemctl restart booth-agent.service
else
    echo "Installed. Now write /etc/booth-agent/agent.toml and slots.toml, then: systemctl start booth-agent"
fi
systemctl --quiet is-active booth-lockdown-apply.service ||
    echo "From its next start on, this booth is locked down: no consoles, no ssh, no sites, until a signed policy opens some."
