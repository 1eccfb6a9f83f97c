#!/bin/sh
# Runs inside the new root file system, once: what Debian's packages alone do not give a virtual booth.
# /build holds this folder's files, the sources of three modules, and what `make wheels` needs.
set -eu

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
kernel=$(ls /lib/modules)
tools="gcc linux-headers-$kernel pkg-config python3-dev libsystemd-dev libsane-dev"

# shellcheck disable=SC2086  # a list of words, on purpose
apt-get -q -q install --yes --no-install-recommends $tools

# LEDs and GPIO lines out of nothing: the kernel's own drivers, which Debian's does not enable.
make -s -C "/lib/modules/$kernel/build" M=/build/modules modules
install -D -m 644 -t "/lib/modules/$kernel/extra" /build/modules/*.ko
depmod "$kernel"

# What `make install` needs without a network, and from it the agent's libraries alone: tests run parts of the agent as it
# stands in the shared folder.
[ ! -f /build/ca.crt ] || export PIP_CERT=/build/ca.crt
unset PIP_FIND_LINKS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR  # files of the machine outside
PIP_NO_CACHE_DIR=1 WHEELS=/opt/wheels sh /build/provisioning/wheels.sh
python3 -m venv /opt/virtual-booth
/opt/virtual-booth/bin/pip --quiet --disable-pip-version-check install --no-index --find-links /opt/wheels \
    paho-mqtt pyserial systemd-python python-sane gpiod
echo /repository > "$(/opt/virtual-booth/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/repository.pth"
python3 -m compileall -q /opt/virtual-booth/lib

install -m 644 /build/guest/command_channel.py /usr/local/lib/command_channel.py
install -m 644 /build/guest/command-channel.service /etc/systemd/system/command-channel.service
mkdir /repository
echo "repository /repository 9p trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 0 0" > /etc/fstab
echo 9pnet_virtio > /etc/modules-load.d/virtual-booth.conf
echo virtual-booth > /etc/hostname
printf '127.0.0.1 localhost virtual-booth\n::1 localhost\n' > /etc/hosts
systemd-machine-id-setup  # without an id this would be a first boot, which enables every unit again

# A quiet machine: a test starts what it needs.
systemctl --quiet enable command-channel.service
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    cups.service cups.socket cups.path mosquitto.service saned.socket nftables.service alsa-restore.service alsa-state.service \
    getty@tty1.service systemd-pstore.service; do
    systemctl --quiet mask "$unit"
done

# shellcheck disable=SC2086
apt-get -q -q purge --yes --autoremove $tools
printf '%s\n' virtio_pci virtio_blk ext4 >> /etc/initramfs-tools/modules
update-initramfs -u -k "$kernel"
