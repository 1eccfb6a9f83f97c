#!/bin/sh
# Put into a folder what it takes to compile and try Python's extensions for another architecture: Debian's headers and libraries for
# it, and its Python. Nothing of that is installed on this machine, whose own dpkg and apt learn of no other architecture.
#     sh provisioning/cross.sh ARCHITECTURE MINOR FOLDER      e.g. arm64 3.11 build/cross/arm64-3.11
# What is there already stays: `rm -r FOLDER` for newer packages.
set -eu

architecture=$1
minor=$2
folder=$3
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
[ ! -d "$folder/root" ] || exit 0

# Beside its place until it is whole: another build may want it at the same time.
wanted=$folder
mkdir -p "$wanted"
folder=$(mktemp -d "$wanted.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/root"
: > "$folder/status" # nothing is installed: every library that is needed comes along
cat > "$folder/apt.conf" << END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "";
Dir::State::Lists "$folder/lists/";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache/";
END
export APT_CONFIG="$folder/apt.conf"
apt-get -q -q update
apt-get -q -q install --download-only --yes --no-install-recommends \
    libsane1 libsystemd0 "python$minor-minimal" "libpython$minor-stdlib"
(cd "$folder/cache/archives" && apt-get -q -q download libsane-dev libsystemd-dev "libpython$minor-dev")
for package in "$folder"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$folder/root"
done
rm -rf "$folder/cache" "$folder/lists" "$folder/root/usr/share/doc" "$folder/root/usr/share/man" "$folder/root/usr/share/locale"
[ -d "$wanted/root" ] || mv -T "$folder/root" "$wanted/root" || [ -d "$wanted/root" ]
