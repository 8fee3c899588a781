"""Where a mount's control socket is: in a folder that only its owner can enter, named after the device.

The daemon and `smbmountctl` find it by themselves, and nobody asks the mount, which may hang. A folder in
/tmp could have been made by anybody, so none is used before it was looked at; what was looked at stays
open, and names are used relative to it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

MAX_LINE = 65536
"""Bytes in one line of the conversation: two paths of 4,096 bytes, each byte escaped, fit several times."""


class Connected(Protocol):
    """A socket, of Python's or of trio's."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """An option's bytes."""


class UnsafeFolder(OSError):
    """The folder is not its owner's alone."""


def folders(owner: int, environ: Mapping[str, str], *, own: bool = True) -> list[str]:
    """The folders in which a mount of `owner` may have its socket, the best first.

    `own`: it is the owner who asks, so that `environ` is the owner's too.
    """
    if owner == 0:
        return ["/run/smbmount", "/tmp/smbmount-0"]
    runtime = [environ.get("XDG_RUNTIME_DIR", "")] if own else []
    parents = dict.fromkeys([*runtime, f"/run/user/{owner}"])
    return [f"{parent}/smbmount" for parent in parents if parent.startswith("/")] + [f"/tmp/smbmount-{owner}"]


def socket_name(device: str) -> str:
    """The name of the socket for the mount on a device, `major:minor`."""
    return f"{device}.sock"


@contextmanager
def opened_folder(path: str, owner: int, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder, which is `owner`'s and closed to everybody else.

    Raises `OSError` if it cannot be opened or made, `UnsafeFolder` if others could have a hand in it.
    """
    if make:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != owner or stat.S_IMODE(status.st_mode) & 0o077:
            raise UnsafeFolder(errno.EPERM, f"it has to belong to user {owner} and be closed to others", path)
        yield descriptor
    finally:
        os.close(descriptor)


def address(descriptor: int, name: str) -> str:
    """The socket's address, by the open folder: a path of any length, which nobody can redirect."""
    return f"/proc/self/fd/{descriptor}/{name}"


def peer_user(connection: Connected) -> int:
    """The user at the other end of a UNIX socket (unix(7), SO_PEERCRED)."""
    return _peer(connection)[1]


def _peer(connection: Connected) -> tuple[int, int, int]:
    layout = struct.Struct("iII")
    pid, user, group = layout.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    )
    return pid, user, group


def serving_process(device: str, owner: int, environ: Mapping[str, str]) -> int | None:
    """The process that made the socket of the mount on a device, and has it open still; None = none is found.

    It is not asked anything, so it may hang.
    """
    for path in folders(owner, environ, own=os.geteuid() == owner):
        with (
            suppress(OSError),
            opened_folder(path, owner) as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection,
        ):
            connection.connect(address(folder, socket_name(device)))
            pid, user, _ = _peer(connection)
            if user == owner:
                return pid
    return None
