"""The virtual booth's disk: Debian 12 with what a booth has, built once and cached.

`python -m tests.virtual_booth.image` builds it where it is missing and says where it is. It lies outside the repository,
in a folder named after everything that it is made from, so that a change of these makes a new one. Building needs
root, the packages of `NEEDS`, about four minutes and 3 GB while it lasts.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_GUEST: Final = Path(__file__).resolve().parent / "guest"
_BUILD_DEADLINE_S: Final = 1500
_DISK_SIZE: Final = "2500M"  # sparse

_DEBIAN: Final = (
    *("systemd", "systemd-sysv", "udev", "kmod", "dbus", "polkitd", "linux-image-amd64", "initramfs-tools"),
    *("iproute2", "procps", "nftables", "python3", "python3-venv", "mosquitto", "mosquitto-clients"),
    *("cups-daemon", "cups-client", "cups-ipp-utils", "libsane1", "sane-utils", "alsa-utils", "v4l-utils", "gpiod"),
    # For `make install`; and what a hijacked daemon would try first.
    *("make", "sudo", "pkexec"),
)
# What /opt/wheels is made by and from, besides this folder's own files.
_WHEELS: Final = (
    *("provisioning/wheels.sh", "provisioning/system-packages"),
    *("requirements/build.lock", "requirements/booth.lock", "requirements/base.lock"),
)

# Which file of which package each step of building needs.
NEEDS: Final = {
    "mmdebstrap": Path("/usr/bin/mmdebstrap"),
    "e2fsprogs": Path("/usr/sbin/mke2fs"),
    "linux-source-6.1": Path("/usr/src/linux-source-6.1.tar.xz"),
}
_MODULE_SOURCES: Final = ("drivers/leds/uleds.c", "drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c")


class CannotBuild(Exception):
    """There is no image and none can be made here; the text says what is missing, or what failed."""


@dataclass(frozen=True)
class Image:
    """A finished image. `disk` is never written to."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"


def image() -> Image:
    """The image, built first where it is missing. Raises CannotBuild."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "booth-agent" / "virtual-booth"
    found = Image(cache / _key())
    if found.folder.is_dir():
        return found
    missing = [package for package, file in NEEDS.items() if not file.exists()]
    if missing:
        raise CannotBuild(f"the virtual booth's image is not built, and these Debian packages are missing: {' '.join(missing)}")
    if os.geteuid() != 0:
        raise CannotBuild("the virtual booth's image is not built: run `python -m tests.virtual_booth.image` once as root")
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.folder.is_dir():  # nobody else built it while we waited
            _build(found, cache)
    return found


def _key() -> str:
    """Stands for everything that the image is made from, but for the moment at which Debian is asked."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in ("build.sh", "command_channel.py", "command-channel.service"):
        digest.update((_GUEST / name).read_bytes())
    for name in _WHEELS:
        digest.update((REPOSITORY / name).read_bytes())
    return digest.hexdigest()[:16]


def _build(image: Image, cache: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as folder:
        build, root, made = (Path(folder, name) for name in ("build", "root", "made"))
        made.mkdir()
        _stage(build)
        log = cache / "build.log"
        log.unlink(missing_ok=True)
        small = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        hooks = [
            f"--setup-hook=mkdir -p '{root}/etc/initramfs-tools/conf.d'",
            f"--setup-hook=echo MODULES=list > '{root}/etc/initramfs-tools/conf.d/virtual-booth'",
            f"--customize-hook=copy-in '{build}' /",
            '--customize-hook=chroot "$1" sh /build/guest/build.sh',
            '--customize-hook=rm -r "$1/build"',
        ]
        debian = ["--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(_DEBIAN)}"]
        _run(log, "mmdebstrap", *debian, *small, *hooks, "bookworm", str(root))
        _run(log, "mke2fs", "-q", "-t", "ext4", "-L", "booth", "-d", str(root), str(made / "disk.img"), _DISK_SIZE)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile(next((root / "boot").glob(f"{name}-*")), made / name)
        for older in cache.iterdir():
            if older.is_dir() and older != Path(folder):
                shutil.rmtree(older)
        made.rename(image.folder)


def _run(log: Path, *command: str) -> None:
    with open(log, "a") as output:
        done = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=_BUILD_DEADLINE_S,
            check=False,
        )
    if done.returncode != 0:
        raise CannotBuild(f"{command[0]} failed with {done.returncode}: see {log}")


def _stage(build: Path) -> None:
    """What the inside of the new root needs besides Debian's packages."""
    modules = build / "modules"
    modules.mkdir(parents=True)
    shutil.copytree(_GUEST, build / "guest")
    for name in _WHEELS:
        (build / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(REPOSITORY / name, build / name)
    certificates = os.environ.get("PIP_CERT")
    if certificates:
        shutil.copyfile(certificates, build / "ca.crt")
    wanted = {f"linux-source-6.1/{name}" for name in _MODULE_SOURCES}
    with tarfile.open(NEEDS["linux-source-6.1"]) as sources:
        for member in sources:
            if member.name in wanted:
                stream = sources.extractfile(member)
                assert stream is not None
                (modules / Path(member.name).name).write_bytes(stream.read())
                wanted.remove(member.name)
                if not wanted:
                    break
    # irq_sim is made for the kernel itself: as a module it needs a licence, and a function that is exported.
    simulated = (modules / "irq_sim.c").read_text()
    simulated = simulated.replace("handle_simple_irq(irq_to_desc(irqnum))", "generic_handle_irq(irqnum)")
    (modules / "irq_sim.c").write_text(f'#include <linux/module.h>\n{simulated}\nMODULE_LICENSE("GPL");\n')
    (modules / "Makefile").write_text("obj-m := uleds.o gpio-sim.o irq_sim.o\n")


if __name__ == "__main__":
    print(image().folder)
