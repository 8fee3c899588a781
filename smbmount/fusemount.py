"""The kernel's side of the mount, by pyfuse3: on the mount table, serving requests, off it again."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pyfuse3
import trio

import smbmount
from engine import Crossing, Share
from smbmount.aftermath import Aftermath
from smbmount.allocator import rest
from smbmount.control import Control
from smbmount.explain import one_line
from smbmount.failures import ExitCode, MountFailure
from smbmount.mounttable import FUSE_CONNECTIONS, FUSE_TYPE, MountEntry, abort, detach, topmost_mount
from smbmount.notify import Notifier
from smbmount.operations import Operations
from smbmount.plan import Plan, connect_below, fuse_options
from smbmount.status import status_of
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.remote import RemoteShare

logger = logging.getLogger(__name__)

READ_AHEAD_KIB: Final = 1024
"""FUSE's largest request; the kernel's own default of 128 halves the speed of cached reads."""

MAX_BACKGROUND: Final = 64
"""Reads into the page cache that the kernel has under way in one mount, those of all programs together. Its
default of 12 is 1,200 reads a second at 10 ms; pyfuse3 serves 99 requests at a time, and others need some."""

_SYNC_SECONDS: Final = 10.0


class _AnnouncingOperations(Operations):
    """Tells when the kernel has shaken hands, which is when the mount begins to answer."""

    def __init__(self, filesystem: FileSystem, timeout: float, initialised: trio.Event) -> None:
        super().__init__(filesystem, timeout)
        self._initialised = initialised

    def init(self) -> None:
        super().init()
        self._initialised.set()


class FuseMount:
    """One mount. pyfuse3 keeps its session in globals, so there is one per process."""

    def __init__(self, plan: Plan) -> None:
        self.initialised = trio.Event()
        """Set in the step in which the kernel's first request is answered."""
        self._plan = plan
        self._branches: Callable[[], list[tuple[str, Share]]] = list
        self._source = plan.source
        self._mountpoint = plan.mountpoint
        self._options = fuse_options(plan)
        self._timeout = plan.options.call_timeout
        self._device: str | None = None
        self._aftermath: Aftermath | None = None
        self._filesystem: FileSystem | None = None
        self._notifier = Notifier()
        self._open = False

    async def open(self, share: Share, config: FileSystemConfig, tasks: trio.Nursery) -> FileSystem:
        """Put the share on the mount table; returns what is served there once `main` runs.

        Raises `MountFailure` if FUSE refuses, and the errors of the engine.
        """
        filesystem = FileSystem(self._served(share, tasks), config, tasks, self._notifier)
        await filesystem.start()
        operations = _AnnouncingOperations(filesystem, self._timeout, self.initialised)
        with _stderr_captured() as said:
            try:
                pyfuse3.init(operations, self._mountpoint, self._options)
            except RuntimeError:
                raise _refused(self._mountpoint, said()) from None
            if text := one_line(said()):
                logger.info("FUSE says: %s", text)
        self._open = True
        self._filesystem = filesystem
        entry = topmost_mount(self._mountpoint)
        if entry is not None:
            self._device = entry.device
            self._aftermath = Aftermath(entry.device)
        tasks.start_soon(filesystem.metadata.prime)
        tasks.start_soon(
            rest, lambda: _moved(share), filesystem.core.read_budget.drop_idle, share.release_buffers
        )
        return filesystem

    def _served(self, share: Share, tasks: trio.Nursery) -> RemoteShare:
        """The share, with what its links lead to where it has any (DFS)."""
        if not share.is_distributed or not self._plan.options.dfs:
            self._branches = lambda: [("", share)]
            return share
        crossing = Crossing(share, partial(connect_below, self._plan), tasks)
        self._branches = lambda: crossing.branches
        return crossing

    def behind(self) -> dict[str, Share]:
        """The shares behind links that are connected now, by the links' paths: one of each connection, but of
        the mount's own."""
        (_, first), *branches = self._branches()
        lines = {first.line}
        found: dict[str, Share] = {}
        for link, share in branches:
            if share.line not in lines:
                lines.add(share.line)
                found[link.replace("\\", "/")] = share
        return found

    async def main(self) -> None:
        """Serve requests until the mount is gone, or `terminate` is called."""
        await pyfuse3.main()

    async def serve_control(
        self, share: Share, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer `smbmountctl` until cancelled."""
        filesystem = self._filesystem
        if filesystem is None or self._device is None:
            task_status.started()
            return
        control = Control(
            filesystem.copies,
            lambda: self._status(filesystem),
            self._notifier.forget_name,
            self._timeout,
        )
        await control.serve(self._device, task_status=task_status)

    def _status(self, filesystem: FileSystem) -> dict[str, object]:
        return {
            "source": self._source,
            "mountpoint": self._mountpoint,
            "pid": os.getpid(),
            "version": smbmount.__version__,
            **status_of([one for _, one in self._branches()], filesystem.kept()),
            "file_system": filesystem.counts(),
        }

    def terminate(self) -> None:
        """Take no more requests: `main` returns when those at work are done."""
        pyfuse3.terminate()

    async def write_pages_out(self) -> None:
        """Have the kernel write out what programs have changed through memory maps; a bounded wait.

        Another process asks for it: one that waits for its own mount could not be killed any more.
        """
        sync = await trio.lowlevel.open_process(["sync", "-f", self._mountpoint], stderr=subprocess.DEVNULL)
        with trio.move_on_after(_SYNC_SECONDS):
            await sync.wait()
        if sync.returncode is None:
            logger.error("pages of memory maps could not be written out within %g s", _SYNC_SECONDS)
            sync.kill()

    def raise_read_ahead(self) -> None:
        """Let the kernel read in large requests, many at a time; only root may, and failing is no error."""
        if self._device is None:
            return
        connection = f"{FUSE_CONNECTIONS}/{self._device.partition(':')[2]}"
        for path, value in (
            (f"/sys/class/bdi/{self._device}/read_ahead_kb", READ_AHEAD_KIB),
            (f"{connection}/max_background", MAX_BACKGROUND),
            (f"{connection}/congestion_threshold", MAX_BACKGROUND),
        ):
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write(str(value))
            except OSError as error:
                logger.info("the kernel's %s stays as it is: %s", os.path.basename(path), error.strerror)

    def close(self) -> None:
        """Take the mount off the table, in use or not; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._notifier.is_held and (entry := self._entry()) is not None:
            # Unmounting waits for those threads, and they wait for pages of requests that nobody answers now.
            try:
                abort(entry)
            except OSError as error:
                logger.info("the kernel's connection cannot be ended: %s", error.strerror)
        pyfuse3.close(unmount=True)
        # libfuse leaves a mount whose connection was aborted on the table.
        if self._entry() is not None:
            try:
                detach(self._mountpoint)
            except OSError as error:
                logger.error("cannot take %s off the mount table: %s", self._mountpoint, error.strerror)
        if self._aftermath is not None:
            self._aftermath.dismiss()

    def _entry(self) -> MountEntry | None:
        """Our mount, if it is on the table."""
        entry = topmost_mount(self._mountpoint)
        is_ours = entry is not None and entry.type == FUSE_TYPE and entry.device == self._device
        return entry if is_ours else None


def _moved(share: Share) -> int:
    statistics = share.statistics()
    return statistics.bytes_received + statistics.bytes_sent


def _refused(mountpoint: str, said: str) -> MountFailure:
    if not os.path.exists("/dev/fuse"):
        return MountFailure("there is no /dev/fuse: load the kernel's module fuse", ExitCode.SYSTEM)
    if os.geteuid() and shutil.which("fusermount3") is None:
        return MountFailure("there is no fusermount3: install the package fuse3", ExitCode.SYSTEM)
    reason = one_line(said) or "no reason was given"
    return MountFailure(f"FUSE cannot mount on {mountpoint}: {reason}", ExitCode.SYSTEM)


@contextlib.contextmanager
def _stderr_captured() -> Iterator[Callable[[], str]]:
    """Catch what libfuse and fusermount3 write to stderr, so that a failure stays one line."""
    caught = os.memfd_create("stderr")
    saved = os.dup(2)
    os.dup2(caught, 2)
    try:
        yield lambda: os.pread(caught, 4096, 0).decode("utf-8", "replace")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(caught)
