"""Opens on the server that outlive the connection they were made on ([MS-SMB2] 3.2.4.4).

A `Handle` is what an open file is to its users: the FileId may be another one after each reconnection, and
`Tree` puts the present one into the requests. A handle that cannot be had again raises `HandleLost` for good.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import trio

from engine.errors import SmbError, raised_again
from engine.proto.inflight import Request
from engine.wire.create import CloseRequest
from engine.wire.io import FlushRequest, IoctlRequest, LockRequest, ReadRequest, WriteRequest
from engine.wire.primitives import FileId
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest, SetInfoRequest

ON_A_FILE = (
    CloseRequest,
    FlushRequest,
    IoctlRequest,
    LockRequest,
    QueryDirectoryRequest,
    QueryInfoRequest,
    ReadRequest,
    SetInfoRequest,
    WriteRequest,
)
"""Requests that name an open file."""

Restore = Callable[[], Awaitable[None]]
"""Opens a file again on the present connection, and calls `Handle.move`. Raises `SmbError`; `NotGivenBack` if
the next call does without what the server has kept."""


class NotGivenBack(SmbError):
    """The server does not give back a durable handle that it granted."""


class Handle:
    """One open file, pipe or folder; `epoch` counts the connections that its tree has had.

    Without `restore`, or once it is closed, it ends with its connection.
    """

    __slots__ = (
        "_error",
        "_settled",
        "epoch",
        "file_id",
        "has_lease",
        "is_durable",
        "is_forsaken",
        "path",
        "restore",
    )

    def __init__(self, file_id: FileId, epoch: int, path: str, restore: Restore | None = None) -> None:
        self.file_id = file_id
        self.epoch = epoch
        self.path = path
        self.restore = restore
        self.has_lease = False
        self.is_durable = False
        """Whether the server keeps it for a while when the connection is lost."""
        self.is_forsaken = False
        """Whether nobody uses it any more: the server, which keeps it, is to be told when it can be."""
        self._error: SmbError | None = None
        self._settled = trio.Event()

    def move(self, file_id: FileId, epoch: int) -> None:
        """It is open again, on the connection of that epoch."""
        self.file_id, self.epoch = file_id, epoch
        self._settled.set()

    def give_up(self, error: SmbError) -> None:
        """It is lost: every use of it raises this from now on."""
        self._error = error
        self._settled.set()

    def await_restoration(self) -> None:
        """Have its users wait for `move` or `give_up`."""
        if self._error is None and self._settled.is_set():
            self._settled = trio.Event()

    @property
    def is_lost(self) -> bool:
        """Whether it is given up."""
        return self._error is not None

    async def wait(self) -> None:
        """Wait until it is open again; raises `HandleLost` if it never will be."""
        await self._settled.wait()
        if self._error is not None:
            raise raised_again(self._error)

    def address(self, requests: Sequence[Request], file_id: FileId) -> Sequence[Request]:
        """The requests with the present FileId where they have `file_id`, which was the handle's."""
        if file_id == self.file_id:
            return requests
        return [self._addressed(request, file_id) for request in requests]

    def _addressed(self, request: Request, file_id: FileId) -> Request:
        if isinstance(request, ON_A_FILE) and request.file_id == file_id:
            return dataclasses.replace(request, file_id=self.file_id)
        return request
