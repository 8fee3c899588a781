"""The kernel's mount table: /proc/self/mountinfo, and taking a mount off it (proc(5), umount(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

MOUNTINFO: Final = "/proc/self/mountinfo"
FUSE_TYPE: Final = "fuse.smbmount"
FUSE_CONNECTIONS: Final = "/sys/fs/fuse/connections"
"""Where fusectl is mounted, if it is."""

_ESCAPE: Final = re.compile(rb"\\([0-3][0-7]{2})")
_OWNER: Final = re.compile(rb"(?:^|,)user_id=([0-9]{1,10})(?:,|$)")
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_FUSERMOUNT_SECONDS: Final = 10.0


class MountEntry(NamedTuple):
    """One line of the mount table."""

    device: str
    """`major:minor` of the file system."""
    mountpoint: str
    type: str
    source: str
    root: str = "/"
    """The folder of the file system that is shown there; of a bind mount it may be another than the root."""
    owner: int | None = None
    """Of a FUSE mount: the user who mounted it."""


def parse_mountinfo(content: bytes) -> Iterator[MountEntry]:
    """Parse /proc/self/mountinfo, lowest mount first; lines of another form are skipped."""
    for line in content.split(b"\n"):
        mount, separator, file_system = line.partition(b" - ")
        left = mount.split(b" ")
        right = file_system.split(b" ")
        if separator and len(left) >= 6 and len(right) >= 2:
            device, mountpoint, kind, source = map(_plain, (left[2], left[4], right[0], right[1]))
            owner = _OWNER.search(right[2]) if len(right) > 2 else None
            number = int(owner[1]) if owner else None
            yield MountEntry(device, mountpoint, kind, source, _plain(left[3]), number)


def _plain(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def read_mounts() -> list[MountEntry]:
    """The mount table, lowest mount first."""
    with open(MOUNTINFO, "rb") as file:
        return list(parse_mountinfo(file.read()))


def topmost_mount(mountpoint: str) -> MountEntry | None:
    """The mount that is visible at exactly this absolute path, without touching it; None = none is."""
    return next((entry for entry in reversed(read_mounts()) if entry.mountpoint == mountpoint), None)


def abort(entry: MountEntry, connections: str = FUSE_CONNECTIONS) -> None:
    """End the kernel's connection of a FUSE mount on the table: all calls in it fail, those that wait too.

    The mount stays on the table. Its owner needs fusectl for this, root does not. Raises `OSError`.
    """
    try:
        with open(f"{connections}/{entry.device.partition(':')[2]}/abort", "wb", buffering=0) as file:
            file.write(b"1")
    except OSError:
        if os.geteuid() != 0:
            raise
        _abort_by_unmounting(entry.mountpoint)


def _abort_by_unmounting(mountpoint: str) -> None:
    # What is in use is aborted by a forced unmount, and not unmounted. O_PATH asks nothing of the mount.
    in_use = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _umount(mountpoint, _MNT_FORCE)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    finally:
        os.close(in_use)


def detach(mountpoint: str) -> None:
    """Take the topmost mount at this path off the table, also while it is in use; raises `OSError`."""
    if os.geteuid() == 0:
        _umount(mountpoint, _MNT_DETACH)
        return
    try:
        subprocess.run(
            ["fusermount3", "-u", "-z", "--", mountpoint],
            check=True,
            capture_output=True,
            timeout=_FUSERMOUNT_SECONDS,
        )
    except subprocess.SubprocessError as error:
        raise OSError(None, "fusermount3 -u -z failed", mountpoint) from error


def _umount(mountpoint: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags | _UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), mountpoint)
