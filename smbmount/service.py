"""The life of a mount: connect, mount, serve, and unwind in order whatever ends it.

Order of unwinding: written data goes out, files are closed, the session is logged off, and the mount
leaves the table last, so that whoever sees it gone knows that everything is on the server.
"""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, Protocol

import trio

from engine import ConnectConfig, ConnectionDescription, Credentials, Share, ShareType, SmbError, Unc
from smbmount import plan as plans
from smbmount.explain import explain, explain_file, explain_prefix, explain_type
from smbmount.failures import ExitCode, MountFailure
from smbmount.plan import Plan
from smbmount.sdnotify import notify
from smbmount.vfs.config import FileSystemConfig

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
"""The kernel's first request is there before the mount call returns; only a broken kernel is late."""

REQUESTS_SECONDS: Final = 5.0
FLUSH_SECONDS: Final = 45.0
LOGOFF_SECONDS: Final = 10.0
"""With the kernel's own pages, the parts of a stop stay below the 90 s that systemd waits before it kills."""

statistics_logger = logging.getLogger("smbmount.statistics")
# Who sends the signal wants the answer, whatever else is logged.
statistics_logger.setLevel(logging.INFO)

_PYFUSE_TASK: Final = "pyfuse-"

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ServedFileSystem(Protocol):
    """What the service needs of a file system that is served."""

    def prefetch_statistics(self) -> dict[str, int]:
        """Counters of what was fetched ahead."""

    def held(self) -> dict[str, int]:
        """What programs that use the mount have the file system hold."""

    async def shutdown(self) -> None:
        """Bring everything written to the server, and close what is open there."""


class KernelMount(Protocol):
    """What the service needs of the kernel; `smbmount.fusemount.FuseMount` is the real one."""

    initialised: trio.Event

    async def open(self, share: Share, config: FileSystemConfig, tasks: trio.Nursery) -> ServedFileSystem: ...

    def behind(self) -> dict[str, Share]:
        """The shares behind links (DFS) that are connected now, one of each connection besides the mount's
        own, by the links' paths."""

    async def main(self) -> None: ...

    async def serve_control(self, share: Share, *, task_status: trio.TaskStatus[None]) -> None: ...

    def terminate(self) -> None: ...

    async def write_pages_out(self) -> None: ...

    def raise_read_ahead(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What lies around the service: the network, the kernel, and the end of the process."""

    connect: Callable[
        [Unc, Credentials, ConnectConfig, Callable[[], Sequence[Credentials]]],
        AbstractAsyncContextManager[Share],
    ]
    mount: Callable[[Plan], KernelMount]
    quit_now: Callable[[int], NoReturn]


class Service:
    """One mount from the first packet to the last. `run` is called once."""

    def __init__(self, plan: Plan, ready: Callable[[], None], backend: Backend) -> None:
        self._plan = plan
        self._ready = ready
        self._backend = backend
        self._mount = backend.mount(plan)
        self._whole = trio.CancelScope()
        self._requests = trio.CancelScope()
        self._failure: MountFailure | None = None
        self._serving = False
        self._stopping = False
        self._unwinding = False

    async def run(self) -> None:
        """Serve until the mount is unmounted or a signal comes; calls `ready` once the mount answers.

        Raises `MountFailure` if there never was a mount, or if written data was lost at the end.
        """
        try:
            with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, signals, nursery)
                    await self._connect_and_serve()
                    nursery.cancel_scope.cancel()
        finally:
            self._mount.close()
        if self._failure is not None:
            raise self._failure

    async def _connect_and_serve(self) -> None:
        plan = self._plan
        try:
            with self._whole:
                async with self._backend.connect(
                    plan.unc._replace(prefix=plan.prefix),
                    plans.credentials(plan.login),
                    plans.connect_config(plan),
                    partial(plans.renewed_credentials, plan),
                ) as share:
                    await self._serve(share)
        except* SmbError as group:
            error = _first_leaf(group)
            assert isinstance(error, SmbError)
            self._fail(explain(error, plan))
        except* MountFailure as group:
            failure = _first_leaf(group)
            assert isinstance(failure, MountFailure)
            self._fail(failure)
        if self._serving or self._failure is not None:
            return
        if self._stopping:
            self._failure = MountFailure(f"interrupted, {plan.source} is not mounted", ExitCode.INTERRUPTED)
        else:
            self._failure = MountFailure(
                f"cannot mount {plan.source}: the server did not answer within "
                f"{plan.options.timeout:g} s; give it longer with timeout="
            )

    def _fail(self, failure: MountFailure) -> None:
        """Before the mount is there the first failure is what the user is told; later ones are logged."""
        if self._serving or self._failure is not None:
            logger.error("%s", failure)
        else:
            self._failure = failure

    async def _serve(self, share: Share) -> None:
        if share.description.share_type is not ShareType.DISK:
            raise explain_type(share.description.share_type, self._plan)
        self._whole.deadline = trio.current_time() + self._plan.options.timeout
        await self._check_prefix(share)
        async with trio.open_nursery() as tasks:
            filesystem = await self._open(share, tasks)
            try:
                await self._serve_requests(share, filesystem)
            finally:
                await self._shut_down(filesystem)
                self._whole.deadline = trio.current_time() + LOGOFF_SECONDS
            tasks.cancel_scope.cancel()

    async def _open(self, share: Share, tasks: trio.Nursery) -> ServedFileSystem:
        try:
            return await self._mount.open(share, plans.filesystem_config(self._plan), tasks)
        except OSError as error:
            raise MountFailure(f"cannot mount {self._plan.source}: {error.strerror}") from error

    async def _check_prefix(self, share: Share) -> None:
        if not self._plan.prefix:
            return
        try:
            found = await share.stat("")
        except SmbError as error:
            raise explain_prefix(error, self._plan) from error
        if not found.is_directory:
            raise explain_file(self._plan)

    async def _serve_requests(self, share: Share, filesystem: ServedFileSystem) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(_report_statistics, share, filesystem, self._mount.behind)
            await nursery.start(self._mount.serve_control, share)
            nursery.start_soon(self._report_losses, share)
            nursery.start_soon(self._announce, share)
            with self._requests:
                await self._mount.main()
            nursery.cancel_scope.cancel()

    async def _announce(self, share: Share) -> None:
        with trio.move_on_after(HANDSHAKE_SECONDS):
            await self._mount.initialised.wait()
        if not self._mount.initialised.is_set():
            self._fail(MountFailure("the kernel never began to use the mount", ExitCode.SYSTEM))
            self._mount.terminate()
            return
        self._mount.raise_read_ahead()
        self._serving = True
        self._whole.deadline = math.inf
        status = self._status(share)
        logger.info("%s", status)
        notify("READY=1", f"STATUS={status}")
        self._ready()

    def _status(self, share: Share) -> str:
        return f"{self._plan.source} is mounted on {self._plan.mountpoint}, {describe(share.description)}"

    async def _report_losses(self, share: Share) -> None:
        """Say when the server is gone and when it is back: programs only see that they have to wait."""
        while True:
            error = await share.wait_lost()
            words = f"the connection to {self._plan.source} is lost: {error}"
            logger.warning("%s; trying to get it back", words)
            notify(f"STATUS={words}")
            lost_at = trio.current_time()
            await share.wait_returned()
            seconds = trio.current_time() - lost_at
            logger.warning("the connection to %s is back after %.1f s", self._plan.source, seconds)
            notify(f"STATUS={self._status(share)}")

    async def _shut_down(self, filesystem: ServedFileSystem) -> None:
        """Bring everything written to the server; shielded, as this must happen whatever ended the mount."""
        self._unwinding = True
        notify("STOPPING=1", f"STATUS=writing to {self._plan.source} what is left")
        with trio.move_on_after(FLUSH_SECONDS, shield=True) as scope:
            try:
                await filesystem.shutdown()
            except (SmbError, OSError) as error:
                self._lose(str(error))
        if scope.cancelled_caught:
            self._lose(f"the server did not take it within {FLUSH_SECONDS:g} s")

    def _lose(self, why: str) -> None:
        self._failure = MountFailure(
            f"not everything could be written to {self._plan.source}: {why}", ExitCode.SYSTEM
        )
        logger.error("%s", self._failure)

    async def _obey(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """The first signal stops in order, the second at once."""
        async for number in signals:
            logger.info("%s received", signal.Signals(number).name)
            if self._stopping:
                self._mount.close()
                self._backend.quit_now(ExitCode.INTERRUPTED)
            self._stopping = True
            if not self._serving:
                self._whole.cancel()
            elif not self._unwinding:
                nursery.start_soon(self._stop)

    async def _stop(self) -> None:
        await self._mount.write_pages_out()
        self._requests.deadline = trio.current_time() + REQUESTS_SECONDS
        self._mount.terminate()


def describe(connection: ConnectionDescription) -> str:
    """Version and protection in a few words, as "SMB 3.1.1, signed with AES-GMAC"."""
    version = connection.dialect.name.removeprefix("SMB_").replace("_", ".")
    if connection.encrypted:
        return f"SMB {version}, encrypted with {connection.cipher}"
    if connection.signing is not None:
        return f"SMB {version}, signed with {connection.signing}"
    return f"SMB {version}, unprotected"


async def _report_statistics(
    share: Share,
    filesystem: ServedFileSystem,
    behind: Callable[[], dict[str, Share]],
    task_status: trio.TaskStatus[None],
) -> None:
    """At each SIGUSR1 write the counters to the log, one line of JSON."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        task_status.started()
        async for _ in signals:
            counters = share.statistics().as_dict() | {
                "behind": {link: there.statistics().as_dict() for link, there in behind().items()},
                "prefetch": filesystem.prefetch_statistics(),
                "held": filesystem.held() | {"files_on_server": share.open_files, "tasks": _count_tasks()},
            }
            statistics_logger.info("statistics: %s", json.dumps(counters))


def _count_tasks() -> int:
    """The tasks of this program; pyfuse3 starts and ends its own as it needs them."""
    count, tasks = 0, [trio.lowlevel.current_root_task()]
    while tasks:
        task = tasks.pop()
        if task is not None:
            count += not task.name.startswith(_PYFUSE_TASK)
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of groups, as nurseries wrap them."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
