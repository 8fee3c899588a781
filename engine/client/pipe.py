"""Named pipes of IPC$: a message goes in, a message comes out, which is how RPC travels on SMB."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from engine import ntstatus
from engine.client.handles import Handle
from engine.client.tree import Tree
from engine.errors import RemoteProtocolError
from engine.wire.constants import SHARE_ALL, Access, IoctlFlags
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.io import IoctlRequest, IoctlResponse, ReadRequest, ReadResponse
from engine.wire.ioctl import FsctlCode
from engine.wire.primitives import Buffer, FileId

_PIECE: Final = 65536
"""What one credit pays for."""

LONGEST_MESSAGE: Final = 16 * 1024 * 1024
"""What a server may make us hold; RPC cuts what it says into fragments of at most 64 KiB."""


class Pipe:
    """An open named pipe, made by `Share.open_pipe`; close it, or use it as an async context manager.

    Every method raises `NtStatusError` if the server refuses, `TransportError` if it is gone.
    """

    def __init__(self, tree: Tree, name: str, file_id: FileId) -> None:
        self.name = name
        self._handle = Handle(file_id, tree.epoch, name)
        self._tree = tree
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        elif not self._closed:
            self._closed = True
            if self._handle.epoch == self._tree.epoch:
                self._tree.connection.close_later(self.file_id, self._tree.batch)

    @property
    def file_id(self) -> FileId:
        """What the server knows the open pipe by."""
        return self._handle.file_id

    async def transceive(self, data: Buffer) -> bytes:
        """Write one message, and wait for the message that answers it ([MS-SMB2] 3.2.4.20.4).

        One round trip for an answer of up to 64 KiB, another one for each further 64 KiB. Raises
        `RemoteProtocolError` for an answer of more than `LONGEST_MESSAGE` bytes. If it is cancelled, the
        answer may stay in the pipe: close it.
        """
        what = f"talk to the pipe {self.name}"
        (reply,) = await self._tree.exchange(
            IoctlRequest(
                ctl_code=FsctlCode.PIPE_TRANSCEIVE,
                file_id=self.file_id,
                input=data,
                max_output_response=_PIECE,
                flags=IoctlFlags.IS_FSCTL,
            ),
            what=what,
            handle=self._handle,
        )
        answer = bytearray(IoctlResponse.decode_untrusted(reply.message).output)
        while reply.header.status == ntstatus.STATUS_BUFFER_OVERFLOW:
            read = ReadRequest(length=_PIECE, offset=0, file_id=self.file_id)
            (reply,) = await self._tree.exchange(read, what=what, handle=self._handle)
            piece = ReadResponse.decode_untrusted(reply.message).data
            if not piece or len(answer) + len(piece) > LONGEST_MESSAGE:
                raise RemoteProtocolError(f"{what}: the answer does not come to an end")
            answer += piece
        return bytes(answer)

    async def close(self) -> None:
        """Close the pipe; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._tree.exchange(
            CloseRequest(file_id=self.file_id),
            what=f"close the pipe {self.name}",
            urgent=True,
            handle=self._handle,
        )


async def open_pipe(tree: Tree, name: str) -> Pipe:
    """Open the pipe `name`, which needs a share of pipes (one round trip).

    Nothing is asked about it: pipes have no attributes, and Samba refuses to make some up.
    """
    create = CreateRequest(desired_access=Access.READ | Access.WRITE, share_access=SHARE_ALL, name=name)
    (created,) = await tree.exchange(create, what=f"open the pipe {name}")
    return Pipe(tree, name, CreateResponse.decode_untrusted(created.message).file_id)
