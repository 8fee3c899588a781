"""A share: paths in, attributes, listings and open files out; most methods are one compound.

Paths are relative to the share, their parts separated by backslashes; "" is the share itself. The module is
long because it is one list: all that can be done with a share by a path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Final

import trio

from engine import ntstatus
from engine.client.attributes import SetInfo, basic_information, check_target, set_info
from engine.client.condition import Condition, History, condition_of
from engine.client.config import ConnectConfig, Unc
from engine.client.controls import TreeControls
from engine.client.copy import Progress, copy_new
from engine.client.description import ConnectionDescription, describe
from engine.client.dfs import DfsStep, Resolver
from engine.client.extended_attributes import get_ea, list_eas, set_ea
from engine.client.file import File
from engine.client.folder import Folder, open_folder
from engine.client.keeping import decode_all, query_all
from engine.client.leases import Lease
from engine.client.link import Link
from engine.client.opening import Opener, Span, Wanted, was_made
from engine.client.outcomes import was_linked, was_removed, was_renamed
from engine.client.rooting import below
from engine.client.stat import (
    DirectoryEntry,
    FileStat,
    VolumeSize,
    stat_at_close,
    stat_from_create,
)
from engine.client.telling import Telling
from engine.client.tree import ATTEMPTS, Tree
from engine.errors import (
    DeletePending,
    InvalidParameter,
    NotFound,
    NtStatusError,
    OutcomeUnknown,
    RemoteProtocolError,
    SmbError,
    TransportError,
    error_from_status,
)
from engine.proto.inflight import Reply
from engine.proto.lease_grants import LeaseKind
from engine.proto.negotiation import Negotiated
from engine.proto.statistics import Statistics
from engine.wire.constants import (
    SHARE_ALL,
    Access,
    CloseFlags,
    CreateAction,
    CreateOptions,
    Disposition,
    FileAttributes,
    InfoType,
    OplockLevel,
    ShareAccess,
)
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest, CreateResponse
from engine.wire.fscc_set import (
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileLinkInformation,
    FileRenameInformation,
)
from engine.wire.fscc_volume import FileFsFullSizeInformation
from engine.wire.io import (
    EchoRequest,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.primitives import FILE_ID_RELATED, Buffer
from engine.wire.query import QueryInfoRequest, QueryInfoResponse

_ATTRIBUTES: Final = Access.READ_ATTRIBUTES
"""All that most changes need besides their own right: whoever may list a folder has it for the files in
it, but SYNCHRONIZE, which is customary, a file of somebody else's may refuse."""

_CLOSE: Final = CloseRequest(file_id=FILE_ID_RELATED)
_CLOSE_TELLING: Final = CloseRequest(file_id=FILE_ID_RELATED, flags=CloseFlags.POSTQUERY_ATTRIB)
_QUERY_ALL: Final = query_all(FILE_ID_RELATED)
_NO_OPTIONS: Final = CreateOptions(0)
_VOLUME_ROOM: Final = 64
_REMOVAL_SECONDS: Final = 10.0
"""For removing what could not be finished, also while everything is being ended."""


class Share(TreeControls):
    """A connected share, made by `engine.connect`.

    Every method raises `NtStatusError` (a leaf of it) if the server refuses, `TransportError` if the
    connection is lost, `RemoteProtocolError` if it cannot be trusted. Cancelling any of them is safe.
    """

    def __init__(
        self,
        tree: Tree,
        unc: Unc,
        config: ConnectConfig,
        resolver: Resolver | None = None,
    ) -> None:
        self.unc = unc
        self.supports_file_ids = True
        super().__init__(tree)
        self._limits = config
        self._resolver = resolver
        self._own_history = History()
        self._telling = Telling()
        tree.on_moved = self._telling.begin_anew
        self._opener = Opener(tree, self._telling, lambda: self.max_read, lambda: self.max_write)

    @property
    def _negotiated(self) -> Negotiated:
        negotiated = self._tree.connection.negotiated
        assert negotiated is not None
        return negotiated

    @property
    def max_read(self) -> int:
        """Bytes that one READ may ask for."""
        limit = self._negotiated.max_read
        return min(limit, self._limits.max_read or limit)

    @property
    def max_write(self) -> int:
        """Bytes that one WRITE may carry."""
        limit = self._negotiated.max_write
        return min(limit, self._limits.max_write or limit)

    @property
    def is_distributed(self) -> bool:
        """Whether folders of it may be on other servers, by what the server says."""
        return self._tree.is_distributed

    @property
    def place(self) -> str:
        r"""`\\server\share\folder` that its paths start at now."""
        return below(self._tree.path, self._tree.prefix)

    @property
    def moves(self) -> int:
        """How often another server has taken the place of the one before."""
        return self._tree.moves

    @property
    def keeper(self) -> Link | None:
        """Who brings it back when its connection is lost (`reconnect`): another one once it went elsewhere
        and left others behind."""
        link = self._tree.link
        return link if isinstance(link, Link) else None

    @property
    def lender(self) -> Link | None:
        """Who may let other shares of the server use this one's connection; None if it is lent itself."""
        return self.keeper if self.keeper is not None and self.keeper.is_of(self._tree) else None

    @property
    def line(self) -> object:
        """What is the same object for shares on one connection."""
        return self.keeper or self._tree

    @property
    def has_open_files(self) -> bool:
        """Whether files are open that would be opened again on another connection (`reconnect`)."""
        return bool(self._tree.handles)

    def dfs_steps(self) -> list[DfsStep]:
        """The referrals that led to the server of now, with their targets; empty if there were none."""
        return [] if self._resolver is None else self._resolver.steps()

    @property
    def description(self) -> ConnectionDescription:
        """Dialect, protection and limits of the connection."""
        return describe(self._tree, self.max_read, self.max_write)

    @property
    def condition(self) -> Condition:
        """Whether it is connected and since when, and what it holds on the server."""
        link = self.keeper
        if link is None:
            return condition_of(self._tree, self._own_history, is_refused=False)
        return condition_of(self._tree, link.history, is_refused=link.is_refused)

    def upload(self) -> tuple[int, int]:
        """Bytes that were to be sent over its connection so far, and how many arrived at the server's end.

        That a large WRITE makes progress on a slow link shows nowhere else.
        """
        return self._tree.connection.upload

    def download(self) -> tuple[int, int]:
        """Bytes of files and listings that requests in flight over its connection may bring, and how many
        have arrived so far, those of replies that are not here as a whole among them."""
        return self._tree.connection.download

    def release_buffers(self) -> None:
        """Let go of the memory that is kept for large replies: for a time when none are expected."""
        self._tree.connection.release_buffers()

    def statistics(self) -> Statistics:
        """Requests, round trips, bytes, credits and times of the connection so far."""
        return self._tree.connection.statistics()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone; calls then wait for it to be made anew, if it is (`reconnect`), or
        raise `TransportError`."""
        return self._tree.connection.lost.is_set()

    async def wait_lost(self) -> SmbError:
        """Wait until the connection is gone; returns why."""
        return await self._tree.connection.wait_lost()

    async def wait_returned(self) -> None:
        """Wait until a lost connection is made anew; for ever if none is."""
        while self._tree.is_settling or self.is_lost:
            if self.keeper is None:
                await trio.sleep_forever()
            else:
                await self.keeper.wait_returned(self._tree)

    @property
    def open_files(self) -> int:
        """How many files a new connection had to bring back: those that are open, or closed and kept by
        the server until it knows."""
        return len(self._tree.handles)

    @property
    def supports_leases(self) -> bool:
        """Whether `lease` is of any use here: leases from 2.1 on if the server has them, oplocks on 2.0.2."""
        return self._tree.connection.leases.kind is not LeaseKind.NONE

    @property
    def supports_directory_leases(self) -> bool:
        """Whether the server may grant leases of folders."""
        return self._tree.connection.leases.kind is LeaseKind.V2 and self._negotiated.directory_leasing

    def lease(self, on_break: Callable[[Lease], None]) -> Lease:
        """A lease to open one file or folder with, as often as it takes; nothing is sent.

        `on_break` is called, with `state` lowered already, in the step in which the server takes some of
        it back, a lost connection does or a grant turns out to be lower, and must not wait: whoever owns
        the lease writes and drops what it has to in a task of its own and then calls `acknowledge`.
        """
        return Lease(on_break)

    async def open(
        self,
        path: str,
        *,
        access: Access = Access.READ,
        disposition: Disposition = Disposition.OPEN,
        options: CreateOptions = _NO_OPTIONS,
        attributes: FileAttributes = FileAttributes.NORMAL,
        share_access: ShareAccess = SHARE_ALL,
        lease: Lease | None = None,
        read: int = 0,
        details: bool = True,
    ) -> File:
        """Open or create a file and learn its attributes (one round trip).

        Without `details` the number of links and the size of the extended attributes may be left out, which
        spares the server a request; so may be, once for each volume of the share, the saving itself.
        Asks for all caching rights under `lease`; what there is afterwards is `lease.state`. With `read`
        that many bytes from the file's beginning come along as `initial_data`, where the credits allow
        it; that they do not come is no error.
        """
        wanted = Wanted(
            path,
            access,
            disposition,
            options,
            attributes,
            share_access,
            lease,
            min(read, self.max_read),
            details,
        )
        return await self._opener.open(wanted)

    async def stat(self, path: str, *, details: bool = True) -> FileStat:
        """The attributes of a file or folder (one round trip); `details` as for `open`."""
        has_ids = self._telling.has_ids
        contexts = self._telling.contexts if not has_ids or not details else ()
        create = CreateRequest(desired_access=_ATTRIBUTES, name=path, contexts=contexts)
        if has_ids and not details:
            created, _ = await self._tree.exchange(create, _CLOSE, what=f"stat {path}")
            response = CreateResponse.decode_untrusted(created.message)
            file_id = self._telling.file_id(response)
            if file_id is not None:
                return stat_from_create(response, file_id)
            create = dataclasses.replace(create, contexts=self._telling.contexts)
        return await self._create_and_ask(create, f"stat {path}")

    async def _create_and_ask(self, create: CreateRequest, what: str) -> FileStat:
        """Open or make something for a moment only, and ask for its attributes."""
        created, queried, _ = await self._tree.exchange(create, _QUERY_ALL, _CLOSE, what=what)
        stat = decode_all(queried.message)
        if create.contexts:
            self._telling.compare(CreateResponse.decode_untrusted(created.message), stat)
        return stat

    async def open_folder(self, path: str, *, pattern: str = "*", lease: Lease | None = None) -> Folder:
        """Open a folder and read its first entries (one round trip).

        Asks for all caching rights of a folder under `lease`; what there is afterwards is `lease.state`.
        """
        return await open_folder(self._tree, path, pattern, self._negotiated.max_transact, lease)

    async def scandir(self, path: str, pattern: str = "*") -> AsyncGenerator[list[DirectoryEntry], None]:
        """List a folder in batches, without "." and ".."; wrap it in `contextlib.aclosing`."""
        folder = await self.open_folder(path, pattern=pattern)
        try:
            async with contextlib.aclosing(folder.batches()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            folder.close_later()

    async def mkdir(self, path: str, *, lease: Lease | None = None) -> FileStat:
        """Make a folder (one round trip); `AlreadyExists` if the name is taken.

        `lease`, here and below, may be one that the server never granted: it then only says in which folder
        something is done, see `LeaseRecord.folder`.
        """
        level, contexts = self._tree.connection.leases.asked_for_changes(lease)
        create = CreateRequest(
            requested_oplock_level=level,
            desired_access=_ATTRIBUTES,
            file_attributes=FileAttributes.DIRECTORY,
            create_disposition=Disposition.CREATE,
            create_options=CreateOptions.DIRECTORY_FILE,
            name=path,
            contexts=(*contexts, *self._telling.contexts),
        )
        what = f"make the folder {path}"
        await self._tree.ready()
        span, moves = Span(), self._tree.moves
        try:
            if not self._telling.has_ids:
                return await self._create_and_ask(create, what)
            created, _ = await self._tree.exchange(create, _CLOSE, what=what)
        except OutcomeUnknown:
            span.end()
            made = await self._find_folder(path, span)
            self._tree.check_not_moved(moves, what)
            return made or await self.mkdir(path, lease=lease)
        response = CreateResponse.decode_untrusted(created.message)
        file_id = self._telling.file_id(response)
        return await self.stat(path) if file_id is None else stat_from_create(response, file_id)

    async def _find_folder(self, path: str, span: Span) -> FileStat | None:
        """The folder that was being made when the connection was lost, None if it was not made; raises
        `AlreadyExists` if what is there may be somebody else's."""
        try:
            stat = await self.stat(path)
        except NotFound:
            return None
        if stat.is_directory and was_made(stat, span, self._tree):
            return stat
        raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, f"make the folder {path}")

    async def unlink(
        self,
        path: str,
        *,
        aside: str | None = None,
        clear_readonly: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """Delete a file (one round trip), without breaking `lease`.

        `file_id`, here and below, says which file is meant, if that is known: should the connection be lost,
        it is looked for before this is done once more.

        With `aside` it is renamed to that path first: the name is free at once even if the file is
        open, and the file lives on until its last handle is closed. `clear_readonly` takes the
        read-only attribute away before, which otherwise makes the server raise `CannotDelete`.
        """
        steps: list[SetInfo] = []
        if clear_readonly:
            steps.append(basic_information(attributes=FileAttributes.NORMAL))
        if aside is not None:
            steps.append(FileRenameInformation(file_name=aside, replace_if_exists=False))
        await self._delete(path, CreateOptions.NON_DIRECTORY_FILE, steps, lease, file_id, aside)

    async def rmdir(self, path: str, *, lease: Lease | None = None, file_id: int = 0) -> None:
        """Delete an empty folder (one round trip); `DirectoryNotEmpty` if it is not."""
        await self._delete(path, CreateOptions.DIRECTORY_FILE, [], lease, file_id)

    async def _delete(
        self,
        path: str,
        kind: CreateOptions,
        steps: list[SetInfo],
        lease: Lease | None,
        file_id: int,
        aside: str | None = None,
    ) -> None:
        access = Access.DELETE | _ATTRIBUTES
        if steps:
            access |= Access.WRITE_ATTRIBUTES
        steps = [*steps, FileDispositionInformation()]
        options = kind | CreateOptions.OPEN_REPARSE_POINT

        async def was_done() -> bool:
            if not await was_removed(self.stat, path, file_id):
                return False
            if aside is not None:
                with contextlib.suppress(NotFound, DeletePending):
                    await self.unlink(aside, file_id=file_id)
            return True

        await self._change(path, access, options, steps, f"delete {path}", lease, was_done)

    async def rename(
        self,
        source: str,
        target: str,
        *,
        replace: bool,
        only_file: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """Rename within the share (one round trip); without `replace` a taken name is `AlreadyExists`.

        With `only_file` a folder is not renamed: `IsADirectory`. `lease`, that of the source, is not broken
        by it.
        """
        check_target(target)
        steps: list[SetInfo] = [FileRenameInformation(file_name=target, replace_if_exists=replace)]
        access, options = Access.DELETE | _ATTRIBUTES, CreateOptions.OPEN_REPARSE_POINT
        if only_file:
            options |= CreateOptions.NON_DIRECTORY_FILE
        was_done = partial(was_renamed, self.stat, source, target, file_id)
        what = f"rename {source} to {target}"
        await self._change(source, access, options, steps, what, lease, was_done)

    async def link(
        self, existing: str, new: str, *, replace: bool = False, lease: Lease | None = None
    ) -> None:
        """Make a hard link (one round trip), without breaking `lease`, that of the file."""
        check_target(new)
        steps: list[SetInfo] = [FileLinkInformation(file_name=new, replace_if_exists=replace)]
        access = _ATTRIBUTES | Access.WRITE_ATTRIBUTES
        kind, what = CreateOptions.NON_DIRECTORY_FILE, f"link {new} to {existing}"
        was_done = partial(was_linked, self.stat, existing, new)
        await self._change(existing, access, kind, steps, what, lease, was_done)

    async def truncate(self, path: str, size: int, *, lease: Lease | None = None) -> None:
        """Set a file's size in bytes (one round trip), without breaking `lease`."""
        steps: list[SetInfo] = [FileEndOfFileInformation(size)]
        access = Access.WRITE_DATA | _ATTRIBUTES
        await self._change(
            path, access, CreateOptions.NON_DIRECTORY_FILE, steps, f"set the size of {path}", lease
        )

    async def set_basic(
        self,
        path: str,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: int | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Set times (nanoseconds since 1970) and attributes (one round trip); what is None stays.

        `lease` is not broken by it.
        """
        steps: list[SetInfo] = [basic_information(access_ns, write_ns, creation_ns, change_ns, attributes)]
        access = Access.WRITE_ATTRIBUTES | _ATTRIBUTES
        await self._change(path, access, CreateOptions(0), steps, f"set attributes of {path}", lease)

    async def _change(
        self,
        path: str,
        access: Access,
        options: CreateOptions,
        steps: list[SetInfo],
        what: str,
        lease: Lease | None = None,
        was_done: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`was_done` looks up whether a change took effect that must not be made twice."""
        for _ in range(ATTEMPTS):
            await self._tree.ready()
            moves = self._tree.moves
            try:
                return await self._change_once(path, access, options, steps, what, lease)
            except OutcomeUnknown:
                is_done = was_done is None or await was_done()
                self._tree.check_not_moved(moves, what)
                if is_done:
                    return
        raise TransportError(f"{what}: the connection is lost each time")

    async def _change_once(
        self,
        path: str,
        access: Access,
        options: CreateOptions,
        steps: list[SetInfo],
        what: str,
        lease: Lease | None,
    ) -> None:
        level, contexts = self._tree.connection.leases.asked_for_changes(lease)
        create = CreateRequest(
            requested_oplock_level=level,
            desired_access=access,
            create_options=options,
            name=path,
            contexts=contexts,
        )
        changes = [set_info(step, FILE_ID_RELATED) for step in steps]
        try:
            await self._tree.exchange(create, *changes, _CLOSE, what=what)
        except InvalidParameter as error:
            if error.index or not contexts:
                raise
            # Samba lets a lease be used by the name only that it was granted for; a hard link is another.
            create = dataclasses.replace(create, requested_oplock_level=OplockLevel.NONE, contexts=())
            await self._tree.exchange(create, *changes, _CLOSE, what=what)

    async def read_file(self, path: str, max_length: int) -> bytes:
        """The first `max_length` bytes of a file (one round trip, up to `max_read` and if credits allow)."""
        if max_length > min(self.max_read, self._tree.connection.room_beside(2)):
            return await self._read_in_parts(path, max_length)
        create = CreateRequest(
            desired_access=Access.READ_DATA | _ATTRIBUTES,
            create_options=CreateOptions.NON_DIRECTORY_FILE,
            name=path,
        )
        read = ReadRequest(length=max_length, offset=0, file_id=FILE_ID_RELATED)
        created, reply, _ = await self._tree.exchange(
            create, read, _CLOSE, what=f"read {path}", passes=(ntstatus.STATUS_END_OF_FILE,)
        )
        if reply.header.status == ntstatus.STATUS_END_OF_FILE:
            return b""
        data = bytes(ReadResponse.decode_untrusted(reply.message).data[:max_length])
        size = CreateResponse.decode_untrusted(created.message).end_of_file
        return data if len(data) >= min(size, max_length) else await self._read_in_parts(path, max_length)

    async def _read_in_parts(self, path: str, max_length: int) -> bytes:
        async with await self.open(path, options=CreateOptions.NON_DIRECTORY_FILE) as file:
            return bytes(await file.read_at(0, max_length))

    async def write_file(
        self,
        path: str,
        data: Buffer,
        *,
        disposition: Disposition = Disposition.CREATE,
        lease: Lease | None = None,
    ) -> FileStat:
        """Make a file with this content (one round trip, up to `max_write` bytes and if credits allow).

        If it cannot be written, a file that this made is removed again. `lease` is not broken by it.
        """
        if len(data) > min(self.max_write, self._tree.connection.room_beside(3)):
            return await self._write_in_parts(path, data, disposition, 0, lease)
        level, contexts = self._tree.connection.leases.asked_for_changes(lease)
        create = CreateRequest(
            requested_oplock_level=level,
            desired_access=Access.WRITE_DATA | _ATTRIBUTES,
            create_disposition=disposition,
            create_options=CreateOptions.NON_DIRECTORY_FILE,
            name=path,
            contexts=(*contexts, *self._telling.contexts),
        )
        write = WriteRequest(data=data, offset=0, file_id=FILE_ID_RELATED)
        # Which file it is comes first: some servers refuse all that follows a refusal.
        await self._tree.ready()
        span, moves = Span(), self._tree.moves
        try:
            replies = await self._tree.exchange(
                create, _QUERY_ALL, write, _CLOSE_TELLING, what=f"write {path}"
            )
        except OutcomeUnknown:
            span.end()
            return await self._write_again(path, data, disposition, lease, span, moves)
        except NtStatusError as error:
            created, queried = error.replies[:2] if error.index > 1 else (None, None)
            if isinstance(created, Reply) and isinstance(queried, Reply) and _was_created(created):
                await self._remove_again(path, decode_all(queried.message))
            raise
        created, queried, written, closed = replies
        stat = decode_all(queried.message)
        count = WriteResponse.decode_untrusted(written.message).count
        if count > len(data):
            raise RemoteProtocolError(f"the server says it took {count} of the {len(data)} bytes of {path}")
        if count == len(data):
            stat.size = max(stat.size, count)
            return stat_at_close(stat, CloseResponse.decode_untrusted(closed.message)) or stat
        try:
            return await self._write_in_parts(path, data, Disposition.OPEN, count, lease)
        except BaseException:
            if _was_created(created):
                await self._remove_again(path, stat)
            raise

    async def _write_again(
        self,
        path: str,
        data: Buffer,
        disposition: Disposition,
        lease: Lease | None,
        span: Span,
        moves: int,
    ) -> FileStat:
        """The connection was lost while a file was made: write it again, unless it is another's."""
        try:
            stat = await self.stat(path)
        except NotFound:
            self._tree.check_not_moved(moves, f"write {path}")
            return await self.write_file(path, data, disposition=disposition, lease=lease)
        self._tree.check_not_moved(moves, f"write {path}")
        if was_made(stat, span, self._tree):
            return await self._write_in_parts(path, data, Disposition.OPEN, 0, lease)
        # A server may have been slow to make it; the content tells too.
        is_alike = span.covers(self._tree, stat.creation_ns) and stat.size == len(data)
        if is_alike and await self.read_file(path, len(data)) == bytes(data):
            return stat
        raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, f"write {path}")

    async def _write_in_parts(
        self, path: str, data: Buffer, disposition: Disposition, done: int, lease: Lease | None
    ) -> FileStat:
        kind, access = CreateOptions.NON_DIRECTORY_FILE, Access.WRITE_DATA
        opening = self.open(path, access=access, disposition=disposition, options=kind, lease=lease)
        async with await opening as file:
            try:
                await file.write_at(done, memoryview(data)[done:])
                return await file.close_and_stat()
            except BaseException:
                if not file.existed:
                    await self._remove_again(path, file.stat)
                raise

    async def _remove_again(self, path: str, made: FileStat) -> None:
        """Remove a file that was made and could not be filled, unless another has its name by now."""
        kind = CreateOptions.NON_DIRECTORY_FILE
        with trio.move_on_after(_REMOVAL_SECONDS, shield=True), contextlib.suppress(SmbError):
            async with await self.open(path, access=Access.DELETE, options=kind) as file:
                if _identity(file.stat) == _identity(made):
                    await file.delete()

    async def copy(
        self, source: str, target: str, *, replace: bool = False, progress: Progress | None = None
    ) -> int:
        """Copy a file's data on the server itself; returns its size in bytes.

        `progress(done, total)` is called after each answer. `target` is there whole or not at all; until
        then it cannot be opened. With `replace` a file that is there stays as it is until the copy takes
        its place, as if renamed over it. Raises `NotSupported` where the server cannot, `AlreadyExists`,
        and `InvalidParameter` if both are the same file.
        """
        kind = CreateOptions.NON_DIRECTORY_FILE
        async with await self.open(source, access=Access.READ, options=kind) as reader:
            if not replace:
                return await copy_new(self._tree, reader, target, progress)
            await self._check_replaceable(reader, target)
            folder, backslash, _ = target.rpartition("\\")
            aside = f"{folder}{backslash}.copy-{secrets.token_hex(12)}"
            size = await copy_new(self._tree, reader, aside, progress)
        await self._take_place(aside, target)
        return size

    async def _check_replaceable(self, source: File, target: str) -> None:
        try:
            old = await self.stat(target)
        except NotFound:
            return
        what = f"copy {source.path} onto {target}"
        if old.is_directory:
            raise error_from_status(ntstatus.STATUS_FILE_IS_A_DIRECTORY, what)
        if _same_file(source, target, old):
            raise error_from_status(ntstatus.STATUS_INVALID_PARAMETER, f"{what}, which is itself")

    async def _take_place(self, aside: str, target: str) -> None:
        try:
            await self.rename(aside, target, replace=True)
        except BaseException:
            with trio.move_on_after(_REMOVAL_SECONDS, shield=True), contextlib.suppress(SmbError):
                await self.unlink(aside)
            raise

    async def volume_size(self) -> VolumeSize:
        """How much room the volume has and how much is free (one round trip)."""
        create = CreateRequest(desired_access=_ATTRIBUTES, name="")
        query = QueryInfoRequest(
            info_type=InfoType.FILESYSTEM,
            file_info_class=FileFsFullSizeInformation.INFORMATION_CLASS,
            output_buffer_length=_VOLUME_ROOM,
            file_id=FILE_ID_RELATED,
        )
        _, reply, _ = await self._tree.exchange(create, query, _CLOSE, what="ask for the free space")
        buffer = memoryview(QueryInfoResponse.decode_untrusted(reply.message).buffer)
        info = FileFsFullSizeInformation.decode_untrusted(buffer)
        return VolumeSize(
            total_units=info.total_allocation_units,
            free_units=info.actual_available_allocation_units,
            caller_free_units=info.caller_available_allocation_units,
            bytes_per_unit=info.sectors_per_allocation_unit * info.bytes_per_sector,
        )

    async def list_eas(self, path: str) -> dict[str, bytes]:
        """All extended attributes of a file by name (one round trip)."""
        return await list_eas(self._tree, path)

    async def get_ea(self, path: str, name: str) -> bytes:
        """One extended attribute (one round trip); `KeyError` if there is none of that name."""
        return await get_ea(self._tree, path, name)

    async def set_ea(self, path: str, name: str, value: bytes) -> None:
        """Set an extended attribute (one round trip); an empty value removes it."""
        await set_ea(self._tree, path, name, value)

    async def echo(self) -> None:
        """One round trip to the server and back."""
        await self._tree.exchange(EchoRequest(), what="reach the server", urgent=True)


def _same_file(file: File, path: str, stat: FileStat) -> bool:
    if not stat.file_id:
        return file.path.casefold() == path.casefold()
    return _identity(file.stat) == _identity(stat)


def _identity(stat: FileStat) -> tuple[int, int]:
    """Where a share spans several volumes, the number alone may not tell."""
    return stat.file_id, stat.creation_ns


def _was_created(reply: Reply) -> bool:
    """Whether the CREATE that this answers has made the file."""
    return CreateResponse.decode_untrusted(reply.message).create_action == CreateAction.CREATED
