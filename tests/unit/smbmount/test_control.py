"""The control socket: what is a request, who is heard, what a slow, greedy or hostile client can do."""

from __future__ import annotations

import errno
import functools
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine import SmbError, TransportError, error_from_status, ntstatus
from smbmount import control as control_module
from smbmount import controlpath
from smbmount.control import (
    CLIENTS,
    BadRequest,
    Control,
    CopyRequest,
    StatusRequest,
    parse_request_untrusted,
)
from smbmount.vfs.copies import Copied, Copies, Progress
from smbmount.vfs.errors import PosixError
from tests.support.logcheck import ExpectedWarnings

P = ParamSpec("P")
COPY = b'{"command": "cp", "source": ["a"], "target": ["folder", "b"]}\n'
STATUS = b'{"command": "status"}\n'
DEVICE = "0:99"


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test in trio, within ten seconds."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(10):
                await test(*args, **kwargs)

        trio.run(main)

    return wrapper


class FakeCopies:
    """Copies that a test directs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[bytes], Sequence[bytes], bool, bool]] = []
        self.error: Exception | None = None
        self.result: Copied | None = Copied(7, (5, 6), b"b")
        self.let_end = trio.Event()
        self.let_end.set()
        self.cancelled = False

    async def copy(
        self,
        source: Sequence[bytes],
        target: Sequence[bytes],
        *,
        no_clobber: bool,
        keep_time: bool,
        progress: Progress,
    ) -> Copied | None:
        self.calls.append((source, target, no_clobber, keep_time))
        progress(3, 7)
        try:
            await self.let_end.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return self.result


class World:
    """A control socket, and what lies around it."""

    def __init__(self, folder: Path) -> None:
        self.copies = FakeCopies()
        self.forgotten: list[tuple[int, bytes]] = []
        self.path = folder / f"{DEVICE}.sock"

    def status(self) -> dict[str, object]:
        return {"source": "//server/share"}

    async def forget(self, number: int, name: bytes) -> None:
        self.forgotten.append((number, name))

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Send a line; the last reply."""
        async with await trio.open_unix_socket(self.path) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(line)
            content = b""
            while b'"ok"' not in content or not content.endswith(b"\n"):
                received = await stream.receive_some()
                assert received, content
                content += received
        reply: dict[str, Any] = json.loads(content.splitlines()[-1])
        return reply


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the socket goes."""
    path = tmp_path / "runtime" / "smbmount"
    path.parent.mkdir()
    monkeypatch.setattr(controlpath, "folders", lambda *_, **__: [str(path)])
    return path


@asynccontextmanager
async def served(folder: Path, patience: float = 60.0) -> AsyncIterator[World]:
    """A socket that is served while the block runs, and gone afterwards."""
    world = World(folder)
    control = Control(cast(Copies, world.copies), world.status, world.forget, patience)
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(control.serve, DEVICE))
        yield world
        nursery.cancel_scope.cancel()
    assert not world.path.exists()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_are_none(line: bytes) -> None:
    try:
        request = parse_request_untrusted(line)
    except BadRequest:
        return
    assert isinstance(request, CopyRequest | StatusRequest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"command": st.sampled_from(["cp", "status"]) | json_values, "source": json_values},
        optional={"target": json_values, "no_clobber": json_values},
    )
)
def test_any_json_is_a_request_or_is_none(content: dict[str, object]) -> None:
    try:
        request = parse_request_untrusted(json.dumps(content).encode())
    except BadRequest:
        return
    if isinstance(request, CopyRequest):
        assert not any(b"/" in part or b"\0" in part for part in request.source + request.target)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[" * 60_000,
        b'"status"',
        b'{"command": ["cp"]}',
        b'{"command": "cp", "source": ["a"]}',
        b'{"command": "cp", "source": ["a"], "target": "b"}',
        b'{"command": "cp", "source": ["a/b"], "target": ["b"]}',
        b'{"command": "cp", "source": ["a\\u0000"], "target": ["b"]}',
        b'{"command": "cp", "source": ["\\ud800"], "target": ["b"]}',
        b'{"command": "cp", "source": [1], "target": ["b"]}',
    ],
)
def test_bad_requests(line: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request_untrusted(line)


def test_names_are_bytes() -> None:
    line = json.dumps({"command": "cp", "source": [os.fsdecode(b"\xff\xc3\xa9")], "target": ["", "b"]})
    request = parse_request_untrusted(line.encode())
    assert request == CopyRequest([b"\xff\xc3\xa9"], [b"", b"b"], False, False)


@in_trio
async def test_status_and_a_copy(folder: Path) -> None:
    async with served(folder) as world:
        assert await world.ask(STATUS) == {"ok": True, "source": "//server/share"}
        assert await world.ask(COPY) == {"ok": True, "bytes": 7}
        assert world.copies.calls == [([b"a"], [b"folder", b"b"], False, False)]
        assert world.forgotten == [(5, b"b"), (6, b"b")]
        world.copies.result = None
        assert await world.ask(COPY) == {"ok": True, "skipped": True}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (error_from_status(ntstatus.STATUS_NOT_SUPPORTED, "x"), "failed", "(STATUS_NOT_SUPPORTED): use cp"),
        (error_from_status(ntstatus.STATUS_INVALID_DEVICE_REQUEST, "x"), "failed", "use cp"),
        (error_from_status(ntstatus.STATUS_DISK_FULL, "x"), "failed", "(STATUS_DISK_FULL)"),
        (TransportError("the server\nhas gone"), "failed", "the server has gone"),
        (PosixError(errno.EINVAL, "both are the same file"), "refused", "both are the same file"),
        (PosixError(errno.EIO, "lost"), "failed", "lost"),
    ],
)
@in_trio
async def test_errors_are_sentences(folder: Path, error: SmbError | OSError, kind: str, words: str) -> None:
    async with served(folder) as world:
        world.copies.error = error
        reply = await world.ask(COPY)
        assert (reply["ok"], reply["kind"]) == (False, kind)
        assert words in reply["error"]
        assert not world.forgotten


@in_trio
async def test_a_mistake_of_ours_ends_one_conversation_only(
    folder: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("met a mistake of this program")
    async with served(folder) as world:
        world.copies.error = ZeroDivisionError()
        async with await trio.open_unix_socket(world.path) as stream:
            await stream.send_all(COPY)
            while await stream.receive_some():
                continue
        assert (await world.ask(STATUS))["ok"] is True


@in_trio
async def test_progress_is_told_and_a_copy_without_any_is_given_up(folder: Path) -> None:
    async with served(folder, patience=0.2) as world:
        world.copies.let_end = trio.Event()
        async with await trio.open_unix_socket(world.path) as stream:
            await stream.send_all(COPY)
            content = b""
            while received := await stream.receive_some():
                content += received
        first, *_, last = [json.loads(line) for line in content.splitlines()]
        assert first in ({"done": 0, "total": 0}, {"done": 3, "total": 7})
        assert "made no progress for 0.2 s" in last["error"]
        assert world.copies.cancelled


@pytest.mark.parametrize("leaving", ["close", "talk"])
@in_trio
async def test_a_client_that_leaves_or_talks_cancels_its_copy(folder: Path, leaving: str) -> None:
    async with served(folder) as world:
        world.copies.let_end = trio.Event()
        stream = await trio.open_unix_socket(world.path)
        await stream.send_all(COPY)
        assert await stream.receive_some()
        if leaving == "close":
            await stream.aclose()
        else:
            await stream.send_all(b"more\n")
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    continue
            await stream.aclose()
        while not world.copies.cancelled:
            await trio.testing.wait_all_tasks_blocked()
        assert (await world.ask(STATUS))["ok"] is True


@in_trio
async def test_a_client_that_does_not_listen_holds_nothing_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "PROGRESS_SECONDS", 0.0)
    async with served(folder) as world:
        world.copies.let_end = trio.Event()
        stream = await trio.open_unix_socket(world.path)
        await stream.send_all(COPY)
        while len(world.copies.calls) < 1:
            await trio.lowlevel.checkpoint()
        for _ in range(20_000):
            await trio.lowlevel.checkpoint()
        assert (await world.ask(STATUS))["ok"] is True
        world.copies.let_end.set()
        content = b""
        while b'"ok"' not in content:
            content += await stream.receive_some()
        assert len(content) < 1 << 20
        await stream.aclose()


@in_trio
async def test_no_more_clients_than_allowed(folder: Path) -> None:
    async with served(folder) as world:
        streams = [await trio.open_unix_socket(world.path) for _ in range(CLIENTS)]
        await trio.testing.wait_all_tasks_blocked()
        reply = await world.ask(STATUS)
        assert (reply["ok"], reply["kind"]) == (False, "failed")
        assert "too many others" in reply["error"]
        for stream in streams:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await world.ask(STATUS))["ok"] is True


def test_a_client_that_says_nothing_is_sent_away(folder: Path) -> None:
    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        async with served(folder) as world, await trio.open_unix_socket(world.path) as stream:
            await stream.send_all(b'{"command": ')
            await trio.testing.wait_all_tasks_blocked(0.01)
            clock.jump(control_module.REQUEST_SECONDS)
            assert await stream.receive_some() == b""

    trio.run(main, clock=trio.testing.MockClock())


@in_trio
async def test_others_are_sent_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlpath, "peer_user", lambda _: os.geteuid() + 1)
    async with served(folder) as world:
        assert (await world.ask(STATUS))["error"] == "only the mount's owner and root may ask"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@in_trio
async def test_folder_and_socket_are_the_owners_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        async with served(folder) as world:
            assert [mode_of(path) for path in (folder, world.path)] == [0o700, 0o600]
    finally:
        os.umask(before)


def leave_stale(folder: Path) -> None:
    folder.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / f"{DEVICE}.sock"))


@in_trio
async def test_a_stale_socket_is_replaced(folder: Path) -> None:
    leave_stale(folder)
    async with served(folder) as world:
        assert (await world.ask(STATUS))["ok"] is True


@in_trio
async def test_the_socket_of_the_next_mount_on_the_device_stays(folder: Path) -> None:
    """A device is free once its mount is gone; the next mount may have it before the daemon has ended."""
    world = World(folder)
    control = Control(cast(Copies, world.copies), world.status, world.forget, 60.0)
    with socket.socket(socket.AF_UNIX) as next_one:
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(control.serve, DEVICE))
            os.unlink(world.path)
            next_one.bind(str(world.path))
            nursery.cancel_scope.cancel()
        assert world.path.is_socket()


def spoil(folder: Path, flaw: str) -> None:
    match flaw:
        case "open to others":
            folder.mkdir()
            folder.chmod(0o710)
        case "a link":
            (folder.parent / "real").mkdir(0o700)
            folder.symlink_to("real")
        case "a file":
            folder.touch()
        case _:
            folder.parent.rmdir()


@pytest.mark.parametrize("flaw", ["open to others", "a link", "a file", "no parent"])
@in_trio
async def test_a_folder_that_is_not_ours_alone_is_not_used(
    folder: Path, flaw: str, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("smbmountctl cannot reach this mount")
    spoil(folder, flaw)
    async with served(folder) as world:
        assert not world.path.is_socket()


@in_trio
async def test_the_next_folder_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlpath, "folders", lambda *_, **__: ["/proc/nothing", str(folder)])
    async with served(folder) as world:
        assert (await world.ask(STATUS))["ok"] is True


def test_where_sockets_are() -> None:
    environ = {"XDG_RUNTIME_DIR": "/custom"}
    assert controlpath.folders(0, environ) == ["/run/smbmount", "/tmp/smbmount-0"]
    assert controlpath.folders(7, environ) == [
        "/custom/smbmount",
        "/run/user/7/smbmount",
        "/tmp/smbmount-7",
    ]
    assert controlpath.folders(7, environ, own=False) == ["/run/user/7/smbmount", "/tmp/smbmount-7"]
    assert controlpath.folders(7, {"XDG_RUNTIME_DIR": "relative"}) == [
        "/run/user/7/smbmount",
        "/tmp/smbmount-7",
    ]


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    with (
        pytest.raises(controlpath.UnsafeFolder),
        controlpath.opened_folder(str(tmp_path), os.geteuid() + 1),
    ):
        pytest.fail("was opened")
