"""The demo behind `scripts/demo`: a throw-away Samba server, and its share mounted by smbmount.

Everything it starts it also ends, on Ctrl-C, on SIGTERM, on an error, and when somebody unmounts.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from smbmount.mounttable import detach, topmost_mount
from tests.support.samba import SambaServer, ShareConfig
from tests.support.server import HarnessError

_PR_SET_CHILD_SUBREAPER: Final = 36
_EXIT_SECONDS: Final = 20.0
_PICTURE_SIZE: Final = 64


class DemoError(Exception):
    """One sentence about what stopped the demo."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Mount a small share to look at.")
    parser.add_argument("--once", action="store_true", help="show the mount and clean up at once")
    parser.add_argument("mountpoint", nargs="?", type=Path, help="an empty folder (default: a new one)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        with ExitStack() as stack:
            mountpoint = _mountpoint(stack, arguments.mountpoint)
            server = stack.enter_context(SambaServer({"demo": ShareConfig()}))
            _fill(server.share_path("demo"))
            server.adopt(server.share_path("demo"))
            stack.enter_context(_mounted(server, mountpoint))
            _show(server, mountpoint)
            if not arguments.once:
                _stay(mountpoint)
    except (DemoError, HarnessError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        _say("")
    _say("Unmounted, server stopped, nothing left behind.")
    return 0


def _on_terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _mountpoint(stack: ExitStack, wish: Path | None) -> Path:
    if wish is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smbmount-demo-")))
    if not wish.is_dir():
        raise DemoError(f"{wish} is not a folder; make it first with mkdir {wish}")
    return wish.resolve()


@contextmanager
def _mounted(server: SambaServer, mountpoint: Path) -> Iterator[None]:
    """Mount in the background as a user would; at the end unmount and wait until the daemon is gone."""
    # The daemon leaves its parent; as a subreaper this process inherits it, and can wait for its end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    options = f"port={server.port},credentials={server.credentials_file}"
    command = [sys.executable, "-m", "smbmount", server.unc("demo"), str(mountpoint), "-o", options]
    before = set(_children())
    try:
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise DemoError("smbmount could not mount the share")
        yield
    finally:
        if topmost_mount(str(mountpoint)) is not None:
            subprocess.run(["fusermount3", "-u", "--", mountpoint], check=False)
        _await_end(set(_children()) - before)
        if topmost_mount(str(mountpoint)) is not None:
            detach(str(mountpoint))


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _await_end(daemons: set[int]) -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    for pid in daemons:
        handle = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not ended:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.waitpid(pid, 0)
        finally:
            os.close(handle)


def _show(server: SambaServer, mountpoint: Path) -> None:
    _say(f"{server.unc('demo')} (Samba on port {server.port}) is mounted on {mountpoint}\n")
    for command in (["ls", "-l"], ["df", "-h", "."], ["cat", "welcome.txt"]):
        _say(f"$ {' '.join(command)}")
        if subprocess.run(command, cwd=mountpoint, check=False).returncode != 0:
            raise DemoError(f"{command[0]} failed on the mount")
        _say("")


def _stay(mountpoint: Path) -> None:
    """Return when the mount is gone; Ctrl-C and SIGTERM leave by `KeyboardInterrupt`."""
    _say(f"To unmount:  fusermount3 -u {mountpoint}")
    _say("To stop:     Ctrl-C here, which unmounts too, or unmount from elsewhere")
    with open("/proc/self/mountinfo", "rb") as table:
        poller = select.poll()
        poller.register(table, select.POLLPRI)
        while topmost_mount(str(mountpoint)) is not None:
            poller.poll()


def _fill(folder: Path) -> None:
    (folder / "welcome.txt").write_text("This file came over SMB.\nChange it or delete it: this is a demo.\n")
    (folder / "notes").mkdir()
    for number in range(1, 6):
        (folder / "notes" / f"note {number}.md").write_text(f"# Note {number}\n\nÄpfel, 梨 and 🍒.\n")
    (folder / "pictures").mkdir()
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 160, 60)), ("blue", (40, 60, 200))):
        (folder / "pictures" / f"{name}.png").write_bytes(_picture(colour))
    deep = folder.joinpath("deep", *(f"level {number}" for number in range(1, 9)))
    deep.mkdir(parents=True)
    (deep / "treasure.txt").write_text("You have found it.\n")


def _picture(colour: tuple[int, int, int]) -> bytes:
    """A small PNG that fades from black to `colour`."""
    rows = []
    for row in range(_PICTURE_SIZE):
        pixel = bytes(channel * row // (_PICTURE_SIZE - 1) for channel in colour)
        rows.append(b"\0" + pixel * _PICTURE_SIZE)
    header = struct.pack(">IIBBBBB", _PICTURE_SIZE, _PICTURE_SIZE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, body) for kind, body in chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


if __name__ == "__main__":
    sys.exit(main())
