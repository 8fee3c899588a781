"""The life of a mount, with fakes for server and kernel: what ends it, in what order, with what word."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import pytest
import trio
import trio.testing

from engine import (
    AuthError,
    ConnectConfig,
    ConnectionDescription,
    Credentials,
    Dialect,
    RemoteProtocolError,
    Share,
    ShareType,
    SmbError,
    TransportError,
    Unc,
    error_from_status,
    parse_unc,
)
from smbmount.credentials import Login
from smbmount.failures import ExitCode, MountFailure
from smbmount.options import parse_options
from smbmount.plan import Plan, read_prefix
from smbmount.secret import Secret
from smbmount.service import FLUSH_SECONDS, Backend, Service, describe
from smbmount.vfs.config import FileSystemConfig
from tests.support.logcheck import ExpectedWarnings
from tests.support.substitute import substitute

NOT_FOUND = 0xC0000034
BAD_NETWORK_NAME = 0xC00000CC
ACCESS_DENIED = 0xC0000022


DESCRIPTION = ConnectionDescription(
    dialect=Dialect.SMB_3_1_1,
    cipher="AES-128-GCM",
    signing="AES-GMAC",
    encrypted=False,
    guest=False,
    server_guid=uuid.UUID(int=0),
    address="192.0.2.1",
    max_read=1,
    max_write=1,
    max_transact=1,
)


class HasQuit(BaseException):
    """The process would have ended here."""


@dataclass
class FakeStat:
    is_directory: bool = True


@dataclass
class World:
    """The server, the kernel and the process, and the order of what happened to them."""

    events: list[str] = field(default_factory=list)
    connect_error: SmbError | None = None
    connects: bool = True
    stat_error: SmbError | None = None
    folder: FakeStat = field(default_factory=FakeStat)
    open_error: Exception | None = None
    shakes_hands: bool = True
    main_error: Exception | None = None
    requests_end: bool = True
    shutdown_error: Exception | None = None
    shuts_down: bool = True
    credentials: Credentials | None = None
    config: ConnectConfig | None = None
    initialised: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    lost: trio.Event = field(default_factory=trio.Event)
    returned: trio.Event = field(default_factory=trio.Event)
    description: ConnectionDescription = field(default_factory=lambda: DESCRIPTION)

    @contextlib.asynccontextmanager
    async def connect(
        self,
        unc: Unc,
        credentials: Credentials,
        config: ConnectConfig,
        renew: Callable[[], Sequence[Credentials]],
    ) -> AsyncIterator[Share]:
        self.credentials, self.config = credentials, config
        if self.connect_error is not None:
            raise self.connect_error
        if not self.connects:
            await trio.sleep_forever()
        self.events.append(f"connected {unc}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                yield cast(Share, self)
            finally:
                self.events.append("logged off")
                nursery.cancel_scope.cancel()

    async def stat(self, path: str) -> FakeStat:
        self.events.append(f"stat {path}")
        if self.stat_error is not None:
            raise self.stat_error
        return self.folder

    async def wait_lost(self) -> SmbError:
        await self.lost.wait()
        return TransportError("the server closed the connection")

    async def wait_returned(self) -> None:
        await self.returned.wait()

    async def open(self, share: Share, config: FileSystemConfig, tasks: trio.Nursery) -> World:
        if self.open_error is not None:
            raise self.open_error
        self.events.append("mounted")
        return self

    async def main(self) -> None:
        if self.shakes_hands:
            self.initialised.set()
        if self.main_error is not None:
            raise self.main_error
        await self.ended.wait()
        if not self.requests_end:
            await trio.sleep_forever()

    async def serve_control(self, share: Share, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    def terminate(self) -> None:
        self.events.append("terminated")
        self.ended.set()

    async def write_pages_out(self) -> None:
        self.events.append("pages written")

    def raise_read_ahead(self) -> None:
        self.events.append("read-ahead")

    def close(self) -> None:
        self.events.append("unmounted")

    def behind(self) -> dict[str, Share]:
        return {}

    def held(self) -> dict[str, int]:
        return {}

    def prefetch_statistics(self) -> dict[str, int]:
        return {}

    async def shutdown(self) -> None:
        if not self.shuts_down:
            await trio.sleep_forever()
        if self.shutdown_error is not None:
            raise self.shutdown_error
        self.events.append("flushed")

    def quit_now(self, code: int) -> NoReturn:
        self.events.append(f"quit {code}")
        raise HasQuit


def make_plan(options: str = "", source: str = "//srv/share") -> Plan:
    chosen = parse_options(options)
    unc = parse_unc(source)
    login = Login("me", Secret("canary"), "D", "ntlm")
    return Plan(source, unc, read_prefix(unc, chosen), f"/nonexistent/{uuid.uuid4()}", chosen, login)


def serve(
    world: World, plan: Plan | None = None, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> MountFailure | None:
    """Run a service to its end with `meanwhile` beside it; time stands still unless all wait for it."""

    async def main() -> None:
        world.initialised, world.ended = trio.Event(), trio.Event()
        service = Service(
            plan or make_plan(),
            lambda: world.events.append("ready"),
            Backend(world.connect, lambda plan: world, world.quit_now),
        )
        async with trio.open_nursery() as nursery:
            if meanwhile is not None:
                nursery.start_soon(meanwhile)
            await service.run()
            nursery.cancel_scope.cancel()

    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, MountFailure):
            return error
        raise error from None
    return None


def unmounting(world: World) -> Callable[[], Awaitable[None]]:
    async def unmount() -> None:
        await trio.testing.wait_all_tasks_blocked()
        world.ended.set()

    return unmount


def signalling(*numbers: signal.Signals) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        for number in numbers:
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(number)

    return send


WHOLE_LIFE = ["connected //srv/share", "mounted", "read-ahead", "ready"]


def test_unmounting_from_outside_ends_in_order_and_well() -> None:
    world = World()
    assert serve(world, meanwhile=unmounting(world)) is None
    assert world.events == [*WHOLE_LIFE, "flushed", "logged off", "unmounted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_flushes_logs_off_and_unmounts_in_this_order(number: signal.Signals) -> None:
    world = World()
    assert serve(world, meanwhile=signalling(number)) is None
    assert world.events == [
        *WHOLE_LIFE,
        *("pages written", "terminated", "flushed", "logged off", "unmounted"),
    ]


def test_requests_that_never_end_do_not_keep_the_mount() -> None:
    world = World(requests_end=False)
    assert serve(world, meanwhile=signalling(signal.SIGTERM)) is None
    assert world.events[-3:] == ["flushed", "logged off", "unmounted"]


def test_a_lost_connection_is_said_and_its_return_too(expected_warnings: ExpectedWarnings) -> None:
    words = "the connection to //srv/share is lost: the server closed the connection; trying to get it back"
    expected_warnings.require(words, "the connection to //srv/share is back after")
    world = World()

    async def lose_and_unmount() -> None:
        await trio.testing.wait_all_tasks_blocked()
        world.lost.set()
        await trio.testing.wait_all_tasks_blocked()
        world.lost = trio.Event()
        world.returned.set()
        await trio.testing.wait_all_tasks_blocked()
        await unmounting(world)()

    assert serve(world, meanwhile=lose_and_unmount) is None
    assert world.events == [*WHOLE_LIFE, "flushed", "logged off", "unmounted"]


def test_a_second_signal_unmounts_and_quits_at_once(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow("not everything could be written")
    world = World(shuts_down=False)
    with pytest.raises(HasQuit):
        serve(world, meanwhile=signalling(signal.SIGTERM, signal.SIGTERM))
    assert f"quit {ExitCode.INTERRUPTED}" in world.events
    assert world.events.index("unmounted") < world.events.index(f"quit {ExitCode.INTERRUPTED}")
    assert "flushed" not in world.events


def test_a_server_that_takes_no_more_data_is_given_up_in_time(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.require("not everything could be written")
    world = World(shuts_down=False)
    failure = serve(world, meanwhile=unmounting(world))
    assert failure is not None
    assert failure.code is ExitCode.SYSTEM
    assert f"within {FLUSH_SECONDS:g} s" in str(failure)
    assert world.events[-2:] == ["logged off", "unmounted"]


@pytest.mark.parametrize("error", [TransportError("lost"), OSError(errno.ENOSPC, "disk full")])
def test_data_lost_at_the_end_is_said_and_is_no_success(
    error: Exception, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("not everything could be written")
    world = World(shutdown_error=error)
    failure = serve(world, meanwhile=unmounting(world))
    assert failure is not None
    assert failure.code is ExitCode.SYSTEM


def test_a_signal_while_it_unwinds_already_changes_nothing() -> None:
    world = World(shuts_down=False, shutdown_error=None)
    flushed = trio.Event()

    async def shutdown() -> None:
        world.events.append("flushing")
        await flushed.wait()

    async def unmount_and_signal() -> None:
        await unmounting(world)()
        await signalling(signal.SIGTERM)()
        await trio.testing.wait_all_tasks_blocked()
        flushed.set()

    substitute(world.shutdown)(shutdown)
    assert serve(world, meanwhile=unmount_and_signal) is None
    assert world.events == [*WHOLE_LIFE, "flushing", "logged off", "unmounted"]


def test_a_signal_before_the_mount_interrupts_it() -> None:
    world = World(connects=False)
    failure = serve(world, meanwhile=signalling(signal.SIGTERM))
    assert failure is not None
    assert failure.code is ExitCode.INTERRUPTED
    assert "//srv/share is not mounted" in str(failure)
    assert "mounted" not in world.events


@pytest.mark.parametrize(
    ("kind", "words"), [(ShareType.PIPE, "a share of named pipes"), (ShareType.PRINT, "a printer")]
)
def test_a_share_without_files_is_not_mounted(kind: ShareType, words: str) -> None:
    world = World(description=dataclasses.replace(DESCRIPTION, share_type=kind))
    failure = serve(world)
    assert failure is not None
    assert failure.code is ExitCode.MOUNT_FAILED
    assert f"it is {words}, not a share of files" in str(failure)
    assert world.events == ["connected //srv/share", "logged off", "unmounted"]


@pytest.mark.parametrize(
    ("error", "phrases"),
    [
        (TransportError("nothing listens", errno=errno.ECONNREFUSED), ["nothing listens"]),
        (TransportError("no route", errno=errno.EHOSTUNREACH), ["no route", "firewall"]),
        (AuthError("log-on as 'me' refused"), ["log-on as 'me' refused"]),
        (error_from_status(BAD_NETWORK_NAME, "connect"), ["STATUS_BAD_NETWORK_NAME", "list its shares"]),
        (error_from_status(ACCESS_DENIED, "connect"), ["STATUS_ACCESS_DENIED", "D\\me", "ask for the right"]),
        (RemoteProtocolError("line one\nline two"), ["line one line two", "-d"]),
    ],
)
def test_each_way_not_to_connect_is_one_line_and_exit_code_32(error: SmbError, phrases: list[str]) -> None:
    failure = serve(World(connect_error=error))
    assert failure is not None
    assert failure.code is ExitCode.MOUNT_FAILED
    assert str(failure).startswith("cannot mount //srv/share: ")
    assert "\n" not in str(failure)
    assert all(phrase in str(failure) for phrase in phrases)


def test_a_folder_that_is_missing_or_none_is_said() -> None:
    plan = make_plan(source="//srv/share/a/b")
    failure = serve(World(stat_error=error_from_status(NOT_FOUND)), plan)
    assert "the share has no folder 'a/b' (STATUS_OBJECT_NAME_NOT_FOUND)" in str(failure)
    failure = serve(World(folder=FakeStat(is_directory=False)), plan)
    assert "'a/b' is a file" in str(failure)
    failure = serve(World(stat_error=error_from_status(ACCESS_DENIED)), plan)
    assert "STATUS_ACCESS_DENIED" in str(failure)


def test_a_folder_that_is_there_is_looked_up_once() -> None:
    world = World()
    assert serve(world, make_plan("prefixpath=/x/y/", "//srv/share/a"), unmounting(world)) is None
    assert world.events[:3] == ["connected //srv/share/x/y", "stat ", "mounted"]


def test_a_kernel_that_refuses_is_said_and_the_session_logged_off() -> None:
    world = World(open_error=MountFailure("FUSE cannot mount", ExitCode.SYSTEM))
    failure = serve(world)
    assert failure is not None
    assert (str(failure), failure.code) == ("FUSE cannot mount", ExitCode.SYSTEM)
    assert world.events == ["connected //srv/share", "logged off", "unmounted"]


def test_a_server_silent_after_the_log_on_is_given_up_in_time() -> None:
    world = World(shakes_hands=True)

    async def silent(path: str) -> FakeStat:
        await trio.sleep_forever()
        raise AssertionError

    substitute(world.stat)(silent)
    failure = serve(world, make_plan("timeout=7", "//srv/share/a"))
    assert failure is not None
    assert "did not answer within 7 s" in str(failure)
    assert failure.code is ExitCode.MOUNT_FAILED


def test_a_kernel_that_never_begins_is_given_up() -> None:
    world = World(shakes_hands=False)
    failure = serve(world)
    assert failure is not None
    assert failure.code is ExitCode.SYSTEM
    assert "ready" not in world.events
    assert world.events[-1] == "unmounted"


def test_an_unexpected_error_still_flushes_and_unmounts() -> None:
    world = World(main_error=KeyError("bug"))
    with pytest.raises(KeyError):
        serve(world)
    assert world.events[-3:] == ["flushed", "logged off", "unmounted"]


def test_the_engine_is_told_what_the_options_say() -> None:
    world = World()
    options = (
        "vers=3.0,seal,port=1445,ip=192.0.2.7,timeout=5,echo_interval=9,max_credits=3,rsize=8192,wsize=4096"
    )
    assert serve(world, make_plan(options), unmounting(world)) is None
    assert world.credentials == Credentials("me", "canary", "D")
    assert world.config == ConnectConfig(
        port=1445,
        address="192.0.2.7",
        min_dialect=Dialect.SMB_3_0,
        max_dialect=Dialect.SMB_3_0,
        signing=True,
        seal=True,
        timeout=5.0,
        echo_interval=9.0,
        max_credits=3,
        max_read=8192,
        max_write=4096,
        reconnect=True,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "SMB 3.1.1, signed with AES-GMAC"),
        ({"encrypted": True}, "SMB 3.1.1, encrypted with AES-128-GCM"),
        ({"dialect": Dialect.SMB_2_0_2, "signing": None}, "SMB 2.0.2, unprotected"),
    ],
)
def test_version_and_protection_are_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert describe(dataclasses.replace(DESCRIPTION, **changes)) == words
