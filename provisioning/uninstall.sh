#!/bin/sh
# Remove the booth agent from this machine, as root, with everything that it brought: `make uninstall`.
#
#   DESTDIR=DIR   from a tree that is no running system
#   KEEP=1        leave the configuration, the state, and with them the user and the groups
set -eu

root=${DESTDIR:-}
case $root in '' | /*) ;; *) root=$PWD/$root ;; esac
keep=${KEEP:-}
[ "$keep" != 0 ] || keep=
cd "$(dirname "$0")/.."

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "Removing needs root: run this as root, or name a folder with DESTDIR=DIR." >&2
    exit 1
fi
running=
[ -n "$root" ] || [ ! -d /run/systemd/system ] || running=yes

# --- nothing of it runs ---
if [ -n "$running" ]; then
    # What the policy put on this machine goes with it: it would lock somebody out whom nobody lets in again.
    [ ! -x /opt/booth-agent/bin/booth-lockdown ] || /opt/booth-agent/bin/booth-lockdown undo || true
    units=$(cd systemd && echo booth-agent.service booth-light.service booth-button.service booth-*.socket booth-lockdown-apply.service \
        booth-lockdown-check.timer booth-lockdown-check.path booth-pages.path booth-pages.timer)
    # shellcheck disable=SC2086  # a list of words, on purpose
    systemctl --quiet disable --now $units 2> /dev/null || true
    systemctl stop booth-lockdown-next.timer 'booth-update-*.timer' 'booth-update-*.service' 'booth-lockdown-*.service' booth-pages.service 'booth-retry@*.timer' 'booth-retry@*.service' 'booth-act-*@*.service' 'booth-journal@*.service' booth-acts.slice || true
    systemctl reset-failed 'booth-*' 2> /dev/null || true
fi

# --- its files, and the links that enabled its units ---
sh provisioning/installed-files | while read -r _ target; do
    rm -f "$root$target"
done
for link in "$root"/etc/systemd/system/*.wants/booth-*; do
    [ ! -L "$link" ] || rm -f "$link"
done
for folder in systemd/system/booth-act-.service.d systemd/system/booth-act-wipe-session@.service.d \
    systemd/system/booth-lockdown-.service.d systemd/system/booth-update-.service.d systemd/system/booth-lockdown-apply.service.d systemd/system/cups.service.d \
    systemd/system.control systemd/system.conf.d systemd/logind.conf.d sysusers.d; do
    [ ! -d "$root/etc/$folder" ] || rmdir --ignore-fail-on-non-empty "$root/etc/$folder"
done
rm -rf "$root/opt/booth-agent" "$root/run/booth-update"
rm -rf "$root/run/booth-acts" "$root/run/booth-act-limits" "$root/run/booth-lockdown" "$root/usr/lib/booth-agent"
if [ -z "$keep" ]; then
    rm -rf "$root/etc/booth-agent" "$root/var/lib/booth-agent" "$root/var/lib/booth-acts" "$root/run/booth-agent"
    rm -rf "$root/var/lib/booth-update" "$root/var/lib/booth-forms"
    rm -rf "$root/var/lib/booth-lockdown" "$root/etc/booth-lockdown" "$root/etc/booth-session"
fi

if [ -n "$running" ]; then
    systemctl daemon-reload
    udevadm control --reload
    for subsystem in usbmisc tty video4linux; do
        udevadm trigger --action=change --subsystem-match="$subsystem"
    done
fi

# --- its user, and the groups that are nobody else's: those of the devices (gpio, render, scanner) are ---
if [ -z "$root$keep" ]; then
    ! getent passwd booth-agent > /dev/null || userdel booth-agent
    for group in booth-agent booth-session; do
        ! getent group "$group" > /dev/null || groupdel "$group"
    done
fi
