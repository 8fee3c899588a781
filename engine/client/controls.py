"""What a share answers besides reading and writing: compounds of one's own, controls, pipes."""

from __future__ import annotations

import contextlib
from typing import Any, Final, Literal, TypeVar, overload
from uuid import UUID

import trio

from engine import ntstatus
from engine.client.compound import send_related, send_unrelated
from engine.client.pipe import Pipe, open_pipe
from engine.client.requests import RELATED, CompoundRequest, Ioctl
from engine.client.rooting import below
from engine.client.session import Session
from engine.client.tree import Tree, connect_tree_and_ask
from engine.errors import BufferOverflow, NtStatusError, RemoteProtocolError, error_from_status
from engine.proto.referrals import Entry, read_untrusted, split_name
from engine.wire.constants import Access, CreateOptions
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.dfs import DfsReferralRequest, DfsReferralRequestEx, DfsReferralResponse
from engine.wire.io import IoctlResponse
from engine.wire.ioctl import (
    FsctlCode,
    NetworkInterfaceInfo,
    SnapshotsResponse,
    decode_network_interfaces_untrusted,
)
from engine.wire.primitives import FILE_ID_RELATED, Buffer
from engine.wire.reparse import ReparsePoint, decode_reparse_untrusted, encode_reparse_deletion

_CLOSE: Final = CloseRequest(file_id=FILE_ID_RELATED)
_ROOM: Final = 65536
_REFERRAL_ROOMS: Final = (65536, 1 << 20)
"""Bytes for referrals: a server cuts what does not fit, and is asked again for all of it once."""
_REPARSE_ROOM: Final = 16384
"""The largest reparse point that there is ([MS-FSCC] 2.1.2.1)."""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


async def connect_for_referrals(
    session: Session, server: str, name: str
) -> tuple[TreeControls, DfsReferralResponse | None]:
    r"""Connect to a server's IPC$ and ask for the referrals of `\server\share\folder` in the same round trip.

    The answer is None if the server gave none there and then: it has to be asked as usual. Raises as
    `connect_tree` does.
    """
    data, room = DfsReferralRequest(name).encode(), _REFERRAL_ROOMS[0]
    request = Ioctl(RELATED, FsctlCode.DFS_GET_REFERRALS, data, room)
    tree, replies = await connect_tree_and_ask(session, f"\\\\{server}\\IPC$", "", request.message())
    controls = TreeControls(tree)
    for reply in replies:
        if reply.header.status == ntstatus.STATUS_SUCCESS:
            return controls, DfsReferralResponse.decode_untrusted(request.read_untrusted(reply.message))
        if reply.header.status == ntstatus.STATUS_BUFFER_OVERFLOW:
            controls.needs_room()
    return controls, None


class TreeControls:
    """The part of `Share` that needs no file of it to be read or written."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._referral_rooms: tuple[int, ...] = _REFERRAL_ROOMS

    @property
    def tree(self) -> Tree:
        """The share's connection."""
        return self._tree

    def needs_room(self) -> None:
        """Referrals did not fit into the usual room."""
        self._referral_rooms = _REFERRAL_ROOMS[-1:]

    @overload
    async def compound(
        self, first: CompoundRequest[A], second: CompoundRequest[B], /, *, what: str = ...
    ) -> tuple[A, B]: ...

    @overload
    async def compound(
        self,
        first: CompoundRequest[A],
        second: CompoundRequest[B],
        third: CompoundRequest[C],
        /,
        *,
        what: str = ...,
    ) -> tuple[A, B, C]: ...

    @overload
    async def compound(
        self,
        first: CompoundRequest[A],
        second: CompoundRequest[B],
        third: CompoundRequest[C],
        fourth: CompoundRequest[D],
        /,
        *,
        what: str = ...,
    ) -> tuple[A, B, C, D]: ...

    @overload
    async def compound(
        self, *requests: CompoundRequest[A], related: Literal[False], what: str = ...
    ) -> list[A | NtStatusError]: ...

    @overload
    async def compound(self, *requests: CompoundRequest[Any], what: str = ...) -> tuple[Any, ...]: ...

    async def compound(
        self, *requests: CompoundRequest[Any], related: bool = True, what: str = "compound"
    ) -> tuple[Any, ...] | list[Any]:
        """Send several requests in one round trip, where the server's credits allow; returns the answers.

        Related, as they are by default, they form one chain: `RELATED` in a request is the file that the
        requests before it opened or used. The first refusal raises its `NtStatusError`, which holds the
        request's `index` and the answers before it as `replies`; a file that the chain opened and did not
        close is then closed. What opens a file and succeeds leaves it open: close its `file_id`.

            opened, info, _ = await share.compound(
                Create(path, Access.READ_ATTRIBUTES), QueryInfo(RELATED, FileAllInformation), Close(RELATED)
            )

        With `related=False` each stands for itself, and the server may answer in any order. The list has,
        in the order of the requests, each one's answer or its `NtStatusError`, which is not raised.

        An answer that is longer than its room is cut. Raises `LocalProtocolError`, and has sent nothing, if
        a request is for a file that none before it opens. `what` is what is tried, for the messages.
        """
        if not requests:
            return () if related else []
        if related:
            return await send_related(self._tree, requests, what)
        return await send_unrelated(self._tree, requests, what)

    async def ioctl(self, code: int, data: Buffer = b"", room: int = _ROOM) -> memoryview:
        """Send a control that needs no file; returns its output, at most `room` bytes (one round trip)."""
        return await self._control(code, data, room, f"file system control 0x{code:08X}")

    async def _control(self, code: int, data: Buffer, room: int, what: str) -> memoryview:
        request = Ioctl(RELATED, code, data, room)
        (reply,) = await self._tree.exchange(request.message(), what=what)
        if reply.header.status == ntstatus.STATUS_BUFFER_OVERFLOW:
            raise error_from_status(reply.header.status, what)
        return request.read_untrusted(reply.message)

    async def referrals(self, path: str = "", site: str | None = None) -> DfsReferralResponse:
        r"""Ask which servers really hold a folder of a distributed tree (one round trip).

        `path` is one of this share, or, if it begins with a backslash, any name: `\server\share\folder`, or
        `\domain`. Domain controllers answer only on their IPC$. With `site` the answer is sorted for the
        clients of that site, which few servers can do. Raises `NotFound` if the name is no part of a
        distributed tree, `NotSupported` if the server has none ([MS-DFSC] 3.1.4.2).
        """
        return await self._referrals(path if path.startswith("\\") else self._dfs_name(path), site)

    async def domains(self) -> DfsReferralResponse:
        """Ask a domain controller, on its IPC$, for the names of the domains that it knows (one round trip).

        Raises `InvalidParameter` and other `NtStatusError`s where the server is none ([MS-DFSC] 2.2.2).
        """
        return await self._referrals("", None)

    async def _referrals(self, name: str, site: str | None) -> DfsReferralResponse:
        what = f"ask for the referrals of {name}" if name else "ask for the domains"
        if site is None:
            code, data = FsctlCode.DFS_GET_REFERRALS, DfsReferralRequest(name).encode()
        else:
            code, data = FsctlCode.DFS_GET_REFERRALS_EX, DfsReferralRequestEx(name, site).encode()
        for room in self._referral_rooms[:-1]:
            with contextlib.suppress(BufferOverflow):
                return DfsReferralResponse.decode_untrusted(await self._control(code, data, room, what))
        return DfsReferralResponse.decode_untrusted(
            await self._control(code, data, self._referral_rooms[-1], what)
        )

    async def find_link(self, path: str) -> tuple[int, Entry]:
        """Of how many parts of `path` the server says that they are a link, and to where (one round trip).

        Raises `NotFound` if none are, `RemoteProtocolError` for an answer that makes no sense.
        """
        name = split_name(self._dfs_name(path))
        asked_at = trio.current_time()
        entry = read_untrusted(name, await self.referrals(path), asked_at)
        length = len(entry.name) - (len(name) - len(split_name(path)))
        if length <= 0:
            raise RemoteProtocolError(f"the server says that all of {self._tree.path} is elsewhere")
        return length, entry

    def _dfs_name(self, path: str) -> str:
        # Referrals name servers with one backslash where tree connects have two ([MS-DFSC] 2.2.2).
        return below(self._tree.path.removeprefix("\\"), below(self._tree.prefix, path))

    async def network_interfaces(self) -> list[NetworkInterfaceInfo]:
        """The addresses that the server can be reached at (one round trip; SMB 3.0 or newer).

        Raises `NotSupported` where the server has no channels ([MS-SMB2] 3.2.4.20.10).
        """
        code, what = FsctlCode.QUERY_NETWORK_INTERFACE_INFO, "ask for the server's network interfaces"
        output = await self._control(code, b"", _ROOM, what)
        return decode_network_interfaces_untrusted(output) if output else []

    async def open_pipe(self, name: str) -> Pipe:
        """Open a named pipe, as "srvsvc" (one round trip); the share has to be IPC$."""
        return await open_pipe(self._tree, name)

    async def reparse_point(self, path: str) -> ReparsePoint:
        """What stands in a file's or folder's stead: a symbolic link, a junction … (one round trip).

        A file that is none has no such thing: STATUS_NOT_A_REPARSE_POINT, with the errno EINVAL.
        """
        what = f"read the reparse point {path}"
        code = FsctlCode.GET_REPARSE_POINT
        output = await self._control_of(path, Access.READ_ATTRIBUTES, code, b"", _REPARSE_ROOM, what)
        return decode_reparse_untrusted(output)

    async def set_reparse_point(self, path: str, point: ReparsePoint) -> None:
        """Make an existing file, or an empty folder, a reparse point (one round trip)."""
        access = Access.READ_ATTRIBUTES | Access.WRITE_ATTRIBUTES
        code, what = FsctlCode.SET_REPARSE_POINT, f"make {path} a reparse point"
        await self._control_of(path, access, code, point.encode(), 0, what)

    async def delete_reparse_point(self, path: str, tag: int, guid: UUID | None = None) -> None:
        """Make a reparse point of this tag an ordinary empty file or folder again (one round trip).

        `guid` is for tags of third parties.
        """
        access = Access.READ_ATTRIBUTES | Access.WRITE_ATTRIBUTES
        code, what = FsctlCode.DELETE_REPARSE_POINT, f"make {path} no reparse point any more"
        await self._control_of(path, access, code, encode_reparse_deletion(tag, guid), 0, what)

    async def snapshots(self, path: str = "") -> list[str]:
        """The share's snapshots as `@GMT-…` tokens, newest first; `NotSupported` where it keeps none."""
        access = Access.READ_DATA | Access.READ_ATTRIBUTES
        code, what = FsctlCode.SRV_ENUMERATE_SNAPSHOTS, "list the snapshots"
        output = await self._control_of(path, access, code, b"", _ROOM, what, CreateOptions(0))
        return list(SnapshotsResponse.decode_untrusted(output).snapshots)

    async def _control_of(
        self,
        path: str,
        access: Access,
        code: int,
        data: bytes,
        room: int,
        what: str,
        options: CreateOptions = CreateOptions.OPEN_REPARSE_POINT,
    ) -> memoryview:
        """Send a control about what `path` names, itself and not what it points to."""
        create = CreateRequest(desired_access=access, create_options=options, name=path)
        request = Ioctl(RELATED, code, data, room).message()
        _, reply, _ = await self._tree.exchange(create, request, _CLOSE, what=what)
        return memoryview(IoctlResponse.decode_untrusted(reply.message).output)
