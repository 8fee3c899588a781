"""A folder, and what operations do to it: the same calls for the mount and for the local folder beside it."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.model.operations import Operation, content

_libc: Final = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD: Final = -100
_XATTR_PREFIX: Final = "user."
_NO_SLOT: Final = "no such slot"


class Seen(NamedTuple):
    """What `stat` tells. `same`: the slots of the client that are open on this very file. `identity` is each
    world's own."""

    kind: str
    size: int
    writable: bool
    write_ns: int
    links: int
    same: tuple[int, ...]
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation came to: its value, or the name of the errno."""

    value: Any = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        if isinstance(self.value, bytes) and len(self.value) > 40:
            return f"{len(self.value)} bytes, md5 {hashlib.md5(self.value).hexdigest()}"
        return repr(self.value)


@dataclass(slots=True)
class Slot:
    """One open descriptor."""

    fd: int
    flags: int
    path: str
    client: int


class World:
    """The folder as each of `roots` shows it, one root per client, and the open descriptors.

    Roots are opened here; later on only descriptors are used, so that a process without privileges can go on.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = [os.open(root, os.O_RDONLY | os.O_DIRECTORY) for root in roots]
        self.slots: dict[int, Slot] = {}
        self._client = 0

    def enter(self, client: int) -> None:
        """Make the client's root the working directory: paths are taken from there."""
        self._client = client
        os.fchdir(self.roots[client % len(self.roots)])

    def do(self, operation: Operation) -> Outcome:
        """Do it; refusals are an outcome like any other."""
        self.enter(operation.client)
        call: Callable[..., Any] = getattr(self, f"do_{operation.name}")
        try:
            return Outcome(call(*operation.arguments))
        except KeyError:
            return Outcome(_NO_SLOT)
        except OSError as exc:
            return Outcome(error=errno.errorcode.get(exc.errno or 0, str(exc)))

    def close_all(self) -> list[str]:
        """Close every descriptor; the errors."""
        return [outcome.error for slot in sorted(self.slots) if (outcome := self._close_one(slot)).error]

    def _close_one(self, slot: int) -> Outcome:
        return self.do(Operation("close", (slot,), self.slots[slot].client))

    # Descriptors

    def do_open(self, slot: int, path: str, flags: int, mode: int) -> str:
        fd = os.open(path, flags, mode)
        self._put(slot, Slot(fd, flags, path, self._client))
        return "opened"

    def _put(self, number: int, slot: Slot) -> None:
        old = self.slots.get(number)
        self.slots[number] = slot
        if old is not None:
            os.close(old.fd)

    def do_dup(self, slot: int, other: int) -> str:
        old = self.slots[slot]
        self._put(other, Slot(os.dup(old.fd), old.flags, old.path, old.client))
        return "opened"

    def do_close(self, slot: int) -> None:
        os.close(self.slots.pop(slot).fd)

    def do_read(self, slot: int, length: int) -> bytes:
        return os.read(self.slots[slot].fd, length)

    def do_pread(self, slot: int, length: int, offset: int) -> bytes:
        return os.pread(self.slots[slot].fd, length, offset)

    def do_write(self, slot: int, seed: int, length: int) -> int:
        return os.write(self.slots[slot].fd, content(seed, length))

    def do_pwrite(self, slot: int, seed: int, length: int, offset: int) -> int:
        return os.pwrite(self.slots[slot].fd, content(seed, length), offset)

    def do_lseek(self, slot: int, offset: int, whence: int) -> int:
        fd = self.slots[slot].fd
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            # What offsets mean in a folder is each file system's own business.
            return 0
        return os.lseek(fd, offset, whence)

    def do_ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.slots[slot].fd, size)

    def do_fsync(self, slot: int) -> None:
        os.fsync(self.slots[slot].fd)

    def do_fdatasync(self, slot: int) -> None:
        os.fdatasync(self.slots[slot].fd)

    def do_fstat(self, slot: int) -> Seen:
        return self._seen(os.fstat(self.slots[slot].fd))

    def do_fchmod(self, slot: int, mode: int) -> None:
        fd = self.slots[slot].fd
        os.fchmod(fd, _storable(os.fstat(fd), mode))

    def do_futimens(self, slot: int, write_ns: int) -> None:
        os.utime(self.slots[slot].fd, ns=(write_ns, write_ns))

    def do_mmap_read(self, slot: int, page: int, length: int) -> bytes:
        """What a private map of the file shows from a page on."""
        with self._mapped(slot, page, length, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
            return mapped[:]

    def do_mmap_write(self, slot: int, seed: int, page: int, length: int) -> int:
        """Change a shared map, have it written, and take it away; the number of bytes changed."""
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        with self._mapped(slot, page, length, mmap.MAP_SHARED, protection) as mapped:
            mapped[:] = content(seed, len(mapped))
            mapped.flush()
            return len(mapped)

    def _mapped(self, slot: int, page: int, length: int, flags: int, protection: int) -> mmap.mmap:
        fd, offset = self.slots[slot].fd, page * mmap.PAGESIZE
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise OSError(errno.ENODEV, "a folder")
        length = min(length, info.st_size - offset)
        if length <= 0:
            raise OSError(errno.ENXIO, "nothing to map there")
        return mmap.mmap(fd, length, flags=flags, prot=protection, offset=offset)

    def do_sendfile(self, target: int, source: int, offset: int, length: int) -> int:
        """Copied inside the kernel; a negative offset is the descriptor's own position. What a file gets of
        itself depends on whether the kernel copies its pages or only passes them on, so that is left out."""
        if self.identity(target) == self.identity(source):
            raise OSError(errno.EINVAL, "a file is not sent to itself")
        out, data = self.slots[target].fd, self.slots[source].fd
        return os.sendfile(out, data, None if offset < 0 else offset, length)

    def do_copy_file_range(self, target: int, source: int, length: int) -> int:
        return os.copy_file_range(self.slots[source].fd, self.slots[target].fd, length)

    # Paths

    def do_truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def do_stat(self, path: str) -> Seen:
        return self._seen(os.stat(path))

    def do_lstat(self, path: str) -> Seen:
        return self._seen(os.lstat(path))

    def do_access(self, path: str, mode: int) -> bool:
        return os.access(path, mode)

    def do_rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def do_rename_with(self, old: str, new: str, flags: int) -> None:
        """renameat2(2)."""
        paths = os.fsencode(old), os.fsencode(new)
        if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    def do_link(self, old: str, new: str) -> None:
        os.link(old, new, follow_symlinks=False)

    def do_symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def do_readlink(self, path: str) -> str:
        return os.readlink(path)

    def do_unlink(self, path: str) -> None:
        os.unlink(path)

    def do_mkdir(self, path: str) -> None:
        os.mkdir(path, 0o755)

    def do_rmdir(self, path: str) -> None:
        os.rmdir(path)

    def do_mkfifo(self, path: str) -> None:
        os.mkfifo(path)

    def do_listdir(self, path: str) -> list[tuple[str, str]]:
        with os.scandir(path) as entries:
            return sorted((entry.name, _kind_of_entry(entry)) for entry in entries)

    def do_chmod(self, path: str, mode: int) -> None:
        os.chmod(path, _storable(os.stat(path), mode))

    def do_utimens(self, path: str, write_ns: int) -> None:
        os.utime(path, ns=(write_ns, write_ns))

    def do_touch(self, path: str) -> None:
        os.utime(path)

    def do_setxattr(self, path: str, name: str, seed: int, length: int) -> None:
        os.setxattr(path, _XATTR_PREFIX + name, content(seed, length))

    def do_getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(path, _XATTR_PREFIX + name)

    def do_listxattr(self, path: str) -> list[str]:
        return sorted(name for name in os.listxattr(path) if name.startswith(_XATTR_PREFIX))

    def do_removexattr(self, path: str, name: str) -> None:
        os.removexattr(path, _XATTR_PREFIX + name)

    def do_read_file(self, path: str) -> bytes:
        with open(path, "rb", buffering=0) as file:
            return file.readall()

    def do_write_file(self, path: str, seed: int, length: int) -> None:
        """What `cp` and editors do: create or truncate, write, close."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(fd, content(seed, length))
        finally:
            os.close(fd)

    def do_pause(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)

    # What is seen

    def _seen(self, info: os.stat_result) -> Seen:
        kind = kind_of(info.st_mode)
        identity = info.st_dev, info.st_ino
        # Another client's mount is another device.
        mine = [slot for slot in sorted(self.slots) if self.slots[slot].client == self._client]
        same = tuple(slot for slot in mine if self.identity(slot) == identity)
        is_file = kind == "file"
        return Seen(
            kind=kind,
            size=info.st_size if kind in ("file", "link") else 0,
            writable=bool(info.st_mode & 0o222) if is_file else True,
            write_ns=info.st_mtime_ns,
            links=info.st_nlink if is_file else 1,
            same=same,
            identity=identity,
        )

    def identity(self, slot: int) -> tuple[int, int]:
        """Which file a slot is open on."""
        return self.identity_of(self.slots[slot])

    def identity_of(self, slot: Slot) -> tuple[int, int]:
        """The same, of the slot itself."""
        info = os.fstat(slot.fd)
        return info.st_dev, info.st_ino

    def tree(self, client: int = 0) -> dict[str, tuple[Any, ...]]:
        """All there is: kind, what it holds, time of writing, extended attributes by path."""
        self.enter(client)
        found: dict[str, tuple[Any, ...]] = {}
        folders = ["."]
        while folders:
            folder = folders.pop()
            for name, kind in self.do_listdir(folder):
                path = f"{folder}/{name}"
                found[path] = self._description(path, kind)
                if kind == "folder":
                    folders.append(path)
        return found

    def _description(self, path: str, kind: str) -> tuple[Any, ...]:
        info = os.lstat(path)
        shown = kind_of(info.st_mode)
        if kind == "link":
            return shown, os.readlink(path)
        xattrs = {
            name: self.do_getxattr(path, name.removeprefix("user.")) for name in self.do_listxattr(path)
        }
        held = self.do_read_file(path) if kind == "file" else b""
        writable = bool(info.st_mode & 0o222)
        return shown, held, writable, info.st_mtime_ns, tuple(sorted(xattrs.items()))


def kind_of(mode: int) -> str:
    """A word for the type of a file."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def _storable(info: os.stat_result, mode: int) -> int:
    """A mode that means the same on a share, where those of folders are the mount's options."""
    return 0o755 if stat.S_ISDIR(info.st_mode) else mode


def _kind_of_entry(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
