"""Requests as values, for `Share.compound`: what is asked goes in, what was answered comes out.

    opened, info, _ = await share.compound(
        Create("notes.txt", Access.READ_ATTRIBUTES), QueryInfo(RELATED, FileAllInformation), Close(RELATED)
    )

`file` is `RELATED`, for the file that the compound opens, or the `file_id` of one that is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, Self, TypeVar

from engine.client.attributes import SetInfo as SettableInformation
from engine.client.attributes import set_info
from engine.errors import RemoteProtocolError
from engine.proto.inflight import Request
from engine.wire.constants import (
    SHARE_ALL,
    Access,
    CloseFlags,
    CreateOptions,
    Disposition,
    FileAttributes,
    InfoType,
    IoctlFlags,
    ShareAccess,
)
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest, CreateResponse
from engine.wire.fscc_volume import FsInformationClass
from engine.wire.io import (
    FlushRequest,
    FlushResponse,
    IoctlRequest,
    IoctlResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.primitives import FILE_ID_RELATED, Buffer, FileId
from engine.wire.query import QueryInfoRequest, QueryInfoResponse, SetInfoResponse

RELATED: Final = FILE_ID_RELATED
"""As a file: the one that the request before this one opened or used."""

_NO_OPTIONS: Final = CreateOptions(0)
_ROOM: Final = 65536
"""What one credit pays for."""

Answer = TypeVar("Answer", covariant=True)


class CompoundRequest(Protocol[Answer]):
    """One request of a compound, and how its answer is read."""

    def message(self) -> Request:
        """The request on the wire."""

    def read_untrusted(self, message: memoryview) -> Answer:
        """The answer in a reply that is no error; raises `RemoteProtocolError`."""


class Information(Protocol):
    """An information class of [MS-FSCC] that can be asked for."""

    INFORMATION_CLASS: ClassVar[int]

    @classmethod
    def decode_untrusted(cls, view: memoryview, /) -> Self:
        """Decode the structure's bytes."""


Info = TypeVar("Info", bound=Information)


@dataclass(frozen=True, slots=True)
class Create:
    """Open or create a file; answered by its `file_id`, times and sizes. No lease is asked for."""

    path: str
    access: Access = Access.READ
    disposition: Disposition = Disposition.OPEN
    options: CreateOptions = _NO_OPTIONS
    attributes: FileAttributes = FileAttributes.NORMAL
    share_access: ShareAccess = SHARE_ALL

    def message(self) -> CreateRequest:
        return CreateRequest(
            desired_access=self.access,
            file_attributes=self.attributes,
            share_access=self.share_access,
            create_disposition=self.disposition,
            create_options=self.options,
            name=self.path,
        )

    def read_untrusted(self, message: memoryview) -> CreateResponse:
        return CreateResponse.decode_untrusted(message)


@dataclass(frozen=True, slots=True)
class Close:
    """Close a file; with `telling` the answer holds its times and sizes as of then."""

    file: FileId
    telling: bool = False

    def message(self) -> CloseRequest:
        return CloseRequest(self.file, CloseFlags.POSTQUERY_ATTRIB if self.telling else CloseFlags(0))

    def read_untrusted(self, message: memoryview) -> CloseResponse:
        return CloseResponse.decode_untrusted(message)


@dataclass(frozen=True, slots=True)
class Read:
    """Read up to `length` bytes; answered by a view of them, and at the end of the file by `EndOfFile`."""

    file: FileId
    offset: int
    length: int

    def message(self) -> ReadRequest:
        return ReadRequest(length=self.length, offset=self.offset, file_id=self.file)

    def read_untrusted(self, message: memoryview) -> memoryview:
        data = memoryview(ReadResponse.decode_untrusted(message).data)
        if len(data) > self.length:
            raise RemoteProtocolError(f"the server sent {len(data)} bytes where {self.length} were asked for")
        return data


@dataclass(frozen=True, slots=True)
class Write:
    """Write `data`; answered by how many bytes of it the server took."""

    file: FileId
    offset: int
    data: Buffer

    def message(self) -> WriteRequest:
        return WriteRequest(data=self.data, offset=self.offset, file_id=self.file)

    def read_untrusted(self, message: memoryview) -> int:
        count = WriteResponse.decode_untrusted(message).count
        if count > len(self.data):
            raise RemoteProtocolError(f"the server says it took {count} of {len(self.data)} bytes")
        return count


@dataclass(frozen=True, slots=True)
class Flush:
    """Have everything written to the file put on the server's disk."""

    file: FileId

    def message(self) -> FlushRequest:
        return FlushRequest(file_id=self.file)

    def read_untrusted(self, message: memoryview) -> None:
        FlushResponse.decode_untrusted(message)


@dataclass(frozen=True, slots=True)
class QueryInfo(Generic[Info]):
    """Ask for one information class of a file or of its volume; answered by the structure.

    `room` is the bytes that the answer may have.
    """

    file: FileId
    information: type[Info]
    room: int = _ROOM

    def message(self) -> QueryInfoRequest:
        number = self.information.INFORMATION_CLASS
        # Files and volumes number their classes alike; which of them it is, the number's type tells.
        is_volume = isinstance(number, FsInformationClass)
        return QueryInfoRequest(
            info_type=InfoType.FILESYSTEM if is_volume else InfoType.FILE,
            file_info_class=number,
            output_buffer_length=self.room,
            file_id=self.file,
        )

    def read_untrusted(self, message: memoryview) -> Info:
        buffer = memoryview(QueryInfoResponse.decode_untrusted(message).buffer)
        return self.information.decode_untrusted(buffer)


@dataclass(frozen=True, slots=True)
class SetInfo:
    """Set one information class of a file."""

    file: FileId
    information: SettableInformation

    def message(self) -> Request:
        return set_info(self.information, self.file)

    def read_untrusted(self, message: memoryview) -> None:
        SetInfoResponse.decode_untrusted(message)


@dataclass(frozen=True, slots=True)
class Ioctl:
    """Send a file system control; answered by a view of its output, at most `room` bytes.

    A first `RELATED` is for the controls that need no file.
    """

    file: FileId
    code: int
    data: Buffer = b""
    room: int = _ROOM

    def message(self) -> IoctlRequest:
        return IoctlRequest(
            ctl_code=self.code,
            file_id=self.file,
            input=self.data,
            max_output_response=self.room,
            flags=IoctlFlags.IS_FSCTL,
        )

    def read_untrusted(self, message: memoryview) -> memoryview:
        output = memoryview(IoctlResponse.decode_untrusted(message).output)
        if len(output) > self.room:
            raise RemoteProtocolError(f"the server sent {len(output)} bytes where {self.room} were asked for")
        return output
