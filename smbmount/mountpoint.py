"""Whether a share may be mounted on a folder, and clearing a dead mount of ours out of the way.

The last component is never followed if it is a symbolic link: its owner could turn it to anywhere
between this check and the mount.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from smbmount.aftermath import is_ended
from smbmount.controlpath import serving_process
from smbmount.failures import ExitCode, MountFailure
from smbmount.mounttable import FUSE_TYPE, MountEntry, abort, detach, topmost_mount


def prepare_mountpoint(path: str, *, nonempty: bool = False, force: bool = False) -> str:
    """Check the mount point; return it as an absolute path without symbolic links.

    Detaches what a killed daemon of ours left there. Raises `MountFailure`.
    """
    try:
        absolute = absolute_mountpoint(path)
        on_autofs = _clear_old_mounts(absolute)
        _check_folder(absolute, force=force)
        # systemd waits for us with every opendir() of an automount point: it would never return.
        if not nonempty and not on_autofs:
            _check_empty(absolute)
    except ValueError:
        raise _refusal(path, "has a NUL character in its name", "") from None
    except OSError as error:
        raise _from_os_error(path, error) from None
    return absolute


def absolute_mountpoint(path: str) -> str:
    """The absolute path, every link resolved but for the last component."""
    if not path:
        raise MountFailure("the mount point's name is empty: give a folder", ExitCode.USAGE)
    stripped = path.rstrip("/") or "/"
    parent, name = os.path.split(stripped)
    if name in ("", ".", ".."):
        return os.path.realpath(stripped)
    return os.path.join(os.path.realpath(parent or "."), name)


def _clear_old_mounts(absolute: str) -> bool:
    """Detach our dead mounts at this path; returns whether an automount point is there."""
    while (entry := topmost_mount(absolute)) is not None:
        if entry.type != FUSE_TYPE:
            return entry.type == "autofs"
        if not _is_orphaned(entry) and _answers(absolute):
            raise MountFailure(
                f"{entry.source} is already mounted on {absolute}: unmount it first with umount {absolute}"
            )
        try:
            detach(absolute)
        except OSError as error:
            raise MountFailure(
                f"cannot take the dead mount off {absolute} ({error.strerror}): run umount -l {absolute}"
            ) from None
    return False


def _is_orphaned(entry: MountEntry) -> bool:
    """Whether the mount's daemon was killed, and the kernel waits in vain for the rest of it.

    Such a mount answers nobody ever; so its connection is ended, and who waits in it gets an error.
    """
    owner = os.geteuid() if entry.owner is None else entry.owner
    daemon = serving_process(entry.device, owner, os.environ)
    if daemon is None or not is_ended(daemon):
        return False
    # Where that is not permitted, it can be detached all the same.
    with suppress(OSError):
        abort(entry)
    return True


def _answers(absolute: str) -> bool:
    """Whether a daemon still serves the mount; statvfs always asks it, where stat may be cached."""
    try:
        os.statvfs(absolute)
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    return True


def _check_folder(absolute: str, *, force: bool) -> None:
    status = os.lstat(absolute)
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(absolute, "is a symbolic link", f"mount on {os.path.realpath(absolute)} itself")
    if not stat.S_ISDIR(status.st_mode):
        raise _refusal(absolute, "is not a folder", "give a folder")
    if os.geteuid() == 0 and status.st_uid != 0 and not force:
        raise _refusal(
            absolute,
            f"belongs to user {status.st_uid}, who could put something else in its place",
            "mount as that user, or add -o force",
        )


def _check_empty(absolute: str) -> None:
    with os.scandir(absolute) as entries:
        if next(entries, None) is not None:
            raise _refusal(absolute, "is not empty", "take an empty folder, or add -o nonempty")


def _from_os_error(path: str, error: OSError) -> MountFailure:
    match error.errno:
        case errno.ENOENT:
            return _refusal(path, "does not exist", f"make it with mkdir {path}")
        case errno.ENOTDIR:
            return _refusal(path, "is not a folder, or a part of its path is none", "give a folder")
        case errno.ENOTCONN:
            return MountFailure(
                f"mount point {path} holds a dead mount of another kind: unmount it first with umount {path}"
            )
        case errno.EACCES | errno.EPERM:
            return _refusal(path, "cannot be reached: permission denied", "check who may enter its path")
        case _:
            return _refusal(path, f"cannot be used: {error.strerror or error}", "")


def _refusal(path: str, what: str, advice: str) -> MountFailure:
    return MountFailure(f"mount point {path} {what}{advice and f': {advice}'}", ExitCode.USAGE)
