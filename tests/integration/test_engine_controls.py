"""What a share answers besides its files: pipes, referrals, network interfaces, reparse points."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from engine import (
    FsctlCode,
    NotFound,
    NotSupported,
    NtStatusError,
    PathNotCovered,
    Pipe,
    ReparseTag,
    ShareType,
    StoppedOnSymlink,
    SymbolicLink,
)
from tests.integration.support_engine import connected, in_trio, inside, settle, trips
from tests.support.samba import SambaServer, ShareConfig

TARGETS: Final = ["\\other.invalid\\share\\folder", "\\second.invalid\\share"]

_HEAD: Final = struct.Struct("<BBBBIHHI")
"""The head of every RPC message: version, type, flags, data representation, lengths, call ([C706] 12.6)."""
_REQUEST, _RESPONSE, _BIND, _BIND_ACK = 0, 2, 11, 12
_WHOLE: Final = 3
_LITTLE_ENDIAN: Final = 0x10
_SRVSVC: Final = UUID("4b324fc8-1670-01d3-1278-5a47bf6ee188")
_NDR: Final = UUID("8a885d04-1ceb-11c9-9fe8-08002b104860")
_SHARE_ENUM: Final = 15
"""NetrShareEnum ([MS-SRVS] 3.1.4.8)."""


async def call(pipe: Pipe, kind: int, body: bytes) -> tuple[int, bytes]:
    """One RPC message and its answer: the answer's type, and what follows its head."""
    head = _HEAD.pack(5, 0, kind, _WHOLE, _LITTLE_ENDIAN, _HEAD.size + len(body), 0, 1)
    answer = await pipe.transceive(head + body)
    _, _, answered, flags, _, length, _, _ = _HEAD.unpack_from(answer)
    assert length == len(answer)
    assert flags & _WHOLE == _WHOLE
    return answered, answer[_HEAD.size :]


async def bind(pipe: Pipe) -> int:
    """Ask for the server service; the type of the answer."""
    interfaces = _SRVSVC.bytes_le + struct.pack("<HH", 3, 0) + _NDR.bytes_le + struct.pack("<I", 2)
    kind, _ = await call(pipe, _BIND, struct.pack("<HHIBxxxHBx", 4280, 4280, 0, 1, 0, 1) + interfaces)
    return kind


async def shares(pipe: Pipe) -> bytes:
    """The server's list of shares, as NDR."""
    no_server, level, no_buffer, all_of_it, no_handle = 0, 1, 0, 0xFFFFFFFF, 0
    container = struct.pack("<III", 0x20000, 0, no_buffer)
    arguments = struct.pack("<III", no_server, level, level) + container
    arguments += struct.pack("<II", all_of_it, no_handle)
    kind, body = await call(pipe, _REQUEST, struct.pack("<IHH", len(arguments), 0, _SHARE_ENUM) + arguments)
    assert kind == _RESPONSE
    return body


@pytest.fixture(scope="module")
def dfs() -> Iterator[SambaServer]:
    """A server with a distributed tree: a root with the folder `link`, which is elsewhere."""
    config = {"dfs": ShareConfig(options={"msdfs root": "yes"}), "data": ShareConfig()}
    with SambaServer(config, global_options={"host msdfs": "yes"}) as server:
        targets = ",".join(target.removeprefix("\\") for target in TARGETS)
        (server.share_path("dfs") / "link").symlink_to(f"msdfs:{targets}")
        server.adopt(server.share_path("dfs"))
        yield server


@in_trio
async def test_a_pipe_is_talked_to(samba: SambaServer) -> None:
    async with connected(samba, "IPC$") as share:
        assert share.description.share_type is ShareType.PIPE
        async with trips(share) as made, await share.open_pipe("srvsvc") as pipe:
            assert await bind(pipe) == _BIND_ACK
            listed = await shares(pipe)
        assert made == {"CREATE": 1, "IOCTL": 2, "CLOSE": 1}
    assert "data\0".encode("utf-16-le") in listed
    assert "IPC$\0".encode("utf-16-le") in listed


@in_trio
async def test_a_pipe_that_is_not_there(samba: SambaServer) -> None:
    async with connected(samba, "IPC$") as share:
        with pytest.raises(NotFound, match="open the pipe no-such-pipe"):
            await share.open_pipe("no-such-pipe")


@in_trio
async def test_a_pipe_is_closed_after_an_error(samba: SambaServer) -> None:
    async with connected(samba, "IPC$") as share:
        pipe = await share.open_pipe("srvsvc")
        with pytest.raises(ZeroDivisionError):
            async with pipe:
                raise ZeroDivisionError
        await settle(share)
        with pytest.raises(NtStatusError):
            await pipe.transceive(b"too late")
        await pipe.close()


@in_trio
async def test_a_share_of_files_has_no_pipes(samba: SambaServer) -> None:
    async with connected(samba) as share:
        assert share.description.share_type is ShareType.DISK
        with pytest.raises(NotFound):
            await share.open_pipe("srvsvc")


@pytest.mark.parametrize("path", ["link", "link\\deeper\\still", "\\127.0.0.1\\dfs\\link"])
@in_trio
async def test_referrals_of_a_link(dfs: SambaServer, path: str) -> None:
    async with connected(dfs, "dfs") as share, trips(share) as made:
        found = await share.referrals(path)
    assert [target.network_address for target in found.referrals] == TARGETS
    assert found.path_consumed == len("\\127.0.0.1\\dfs\\link".encode("utf-16-le"))
    assert all(target.time_to_live > 0 for target in found.referrals)
    assert made == {"IOCTL": 1}


@in_trio
async def test_referrals_of_the_root_and_through_the_share_of_pipes(dfs: SambaServer) -> None:
    async with connected(dfs, "dfs") as share:
        (root,) = (await share.referrals()).referrals
        assert root.network_address == "\\127.0.0.1\\dfs"
        with pytest.raises(PathNotCovered):
            await share.stat("link")
    async with connected(dfs, "IPC$") as share:
        found = await share.referrals("\\127.0.0.1\\dfs\\link")
        assert [target.network_address for target in found.referrals] == TARGETS


@in_trio
async def test_referrals_that_there_are_none_of(dfs: SambaServer) -> None:
    async with connected(dfs, "data") as share:
        with pytest.raises(NotFound, match="ask for the referrals of"):
            await share.referrals("folder")
        with pytest.raises(NotSupported):
            await share.referrals("folder", site="Default-First-Site-Name")


@in_trio
async def test_network_interfaces(samba: SambaServer) -> None:
    for name in ("data", "IPC$"):
        async with connected(samba, name) as share, trips(share) as made:
            found = await share.network_interfaces()
        assert ip_address("127.0.0.1") in [interface.address for interface in found]
        assert all(interface.link_speed > 0 for interface in found)
        assert made == {"IOCTL": 1}


@in_trio
async def test_a_control_that_nobody_knows(samba: SambaServer) -> None:
    async with connected(samba) as share:
        with pytest.raises(NotSupported, match="0x00110018"):
            await share.ioctl(FsctlCode.PIPE_WAIT)


@in_trio
async def test_reparse_points_where_the_server_has_none(samba: SambaServer, share_path: Path) -> None:
    """Samba 4.17 knows the controls, and says of every file that it is no reparse point."""
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"content")
        async with trips(share) as made:
            for attempt in (
                share.reparse_point(path),
                share.set_reparse_point(path, SymbolicLink("target", "target")),
                share.delete_reparse_point(path, ReparseTag.SYMLINK),
            ):
                with pytest.raises(NtStatusError, match="STATUS_NOT_A_REPARSE_POINT"):
                    await attempt
        assert made == {"CREATE+IOCTL+CLOSE": 3}
        assert await share.read_file(path, 100) == b"content"
        with pytest.raises(NotFound):
            await share.reparse_point(path + "absent")


@in_trio
async def test_reparse_points(samba_backports: SambaServer, backports_share_path: Path) -> None:
    at = inside(backports_share_path)
    point = SymbolicLink("folder\\target", "folder\\target")
    async with connected(samba_backports) as share:
        await share.write_file(at("link"), b"")
        async with trips(share) as made:
            await share.set_reparse_point(at("link"), point)
            assert await share.reparse_point(at("link")) == point
            with pytest.raises(StoppedOnSymlink):
                await share.read_file(at("link"), 1)
            await share.delete_reparse_point(at("link"), ReparseTag.SYMLINK)
        assert made["CREATE+IOCTL+CLOSE"] == 3
        with pytest.raises(NtStatusError, match="STATUS_NOT_A_REPARSE_POINT"):
            await share.reparse_point(at("link"))
        await share.unlink(at("link"))
