"""The in-memory share of the fake server: just enough of a file system for the client's requests."""

from __future__ import annotations

import fnmatch
import itertools
from dataclasses import dataclass, field
from typing import Final

from engine import ntstatus
from engine.wire.constants import (
    CloseFlags,
    CreateAction,
    CreateOptions,
    Disposition,
    FileAttributes,
    InfoType,
    LockFlags,
)
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest, CreateResponse
from engine.wire.create_contexts import CreateContext, QueryOnDiskIdRequest, QueryOnDiskIdResponse
from engine.wire.fscc import FileAllInformation, FileBasicInformation, FileInformationClass
from engine.wire.fscc_directory import DirectoryRecord, encode_directory
from engine.wire.fscc_ea import (
    FileFullEaInformation,
    decode_full_eas_untrusted,
    decode_get_eas_untrusted,
    encode_full_eas,
)
from engine.wire.fscc_set import (
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileLinkInformation,
    FileRenameInformation,
)
from engine.wire.fscc_volume import FileFsFullSizeInformation
from engine.wire.io import LockElement
from engine.wire.primitives import FileId, align8
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest, SetInfoRequest
from tests.fakes.server_controls import Controls, Refused

SOME_TIME: Final = 133_000_000_000_000_000
"""A FILETIME in 2022."""

_MAKES: Final = (
    Disposition.SUPERSEDE,
    Disposition.CREATE,
    Disposition.OPEN_IF,
    Disposition.OVERWRITE_IF,
)
_EMPTIES: Final = (Disposition.SUPERSEDE, Disposition.OVERWRITE, Disposition.OVERWRITE_IF)


@dataclass(eq=False)
class Node:
    """A file or a folder."""

    name: str
    file_id: int
    attributes: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[str, Node] = field(default_factory=dict)
    write_time: int = SOME_TIME
    links: int = 1
    eas: dict[bytes, bytes] = field(default_factory=dict)
    reparse: bytes = b""
    is_pipe: bool = False

    @property
    def is_directory(self) -> bool:
        return bool(self.attributes & FileAttributes.DIRECTORY)


@dataclass(eq=False)
class Open:
    """A handle: where its file hangs, what it locked and how far its listing has come."""

    node: Node
    parent: Node
    delete_on_close: bool = False
    locks: list[tuple[int, int]] = field(default_factory=list)
    listing: list[DirectoryRecord] | None = None


class MemoryTree:
    """Files, folders and handles. Names compare without case; paths have backslashes."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.root = Node("", next(self._numbers), FileAttributes.DIRECTORY)
        self.opens: dict[FileId, Open] = {}
        self.hostile_names: list[str] = []
        """Further names that every listing contains, whatever they are."""
        self.lock_calls: list[tuple[int, int, int]] = []
        self.controls = Controls()
        self.has_file_ids = True
        self.tells_disk_ids = True
        """Whether CREATE answers the context that asks for the id."""
        self.disk_id_shift = 0
        """What its answer is off FileAllInformation's."""
        self.volume = 1
        self.tells_at_close = True

    def add_file(self, path: str, data: bytes = b"") -> Node:
        """Put a file there, its folders exist."""
        parent, name = self._parent_of(path)
        node = Node(name, next(self._numbers), FileAttributes.ARCHIVE, bytearray(data))
        parent.children[name.casefold()] = node
        return node

    def add_folder(self, path: str) -> Node:
        """Put an empty folder there, the folders above it exist."""
        parent, name = self._parent_of(path)
        node = Node(name, next(self._numbers), FileAttributes.DIRECTORY)
        parent.children[name.casefold()] = node
        return node

    def node(self, path: str) -> Node:
        """What is at `path`; raises `Refused`."""
        parent, name = self._parent_of(path)
        found = parent.children.get(name.casefold()) if name else parent
        if found is None:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
        return found

    def _parent_of(self, path: str) -> tuple[Node, str]:
        *folders, name = path.split("\\")
        parent = self.root
        for folder in folders:
            found = parent.children.get(folder.casefold())
            if found is None or not found.is_directory:
                raise Refused(ntstatus.STATUS_OBJECT_PATH_NOT_FOUND)
            parent = found
        return parent, name

    def opened(self, file_id: FileId) -> Open:
        """The handle of that name; raises `Refused`."""
        try:
            return self.opens[file_id]
        except KeyError:
            raise Refused(ntstatus.STATUS_FILE_CLOSED) from None

    def create(self, request: CreateRequest) -> CreateResponse:
        """[MS-SMB2] 3.3.5.9."""
        parent, name = self._parent_of(request.name)
        found = parent.children.get(name.casefold()) if name else self.root
        action = self._act(found, request)
        if found is None:
            is_folder = request.create_options & CreateOptions.DIRECTORY_FILE
            attributes = FileAttributes.DIRECTORY if is_folder else FileAttributes.ARCHIVE
            found = parent.children[name.casefold()] = Node(name, next(self._numbers), attributes)
        if request.create_disposition in _EMPTIES:
            found.data = bytearray()
        number = next(self._numbers)
        file_id = FileId(number, number << 32 | 7)
        delete = bool(request.create_options & CreateOptions.DELETE_ON_CLOSE)
        self.opens[file_id] = Open(found, parent, delete)
        response = self.told(file_id)
        response.create_action = action
        response.contexts = self._disk_id(found, request)
        return response

    def told(self, file_id: FileId) -> CreateResponse:
        """What CREATE tells of an open file."""
        node = self.opened(file_id).node
        return CreateResponse(
            create_action=CreateAction.OPENED,
            creation_time=SOME_TIME,
            last_access_time=SOME_TIME,
            last_write_time=node.write_time,
            change_time=SOME_TIME,
            allocation_size=len(node.data),
            end_of_file=len(node.data),
            file_attributes=node.attributes,
            file_id=file_id,
        )

    def _disk_id(self, node: Node, request: CreateRequest) -> list[CreateContext]:
        is_asked = any(isinstance(context, QueryOnDiskIdRequest) for context in request.contexts)
        if not is_asked or not self.tells_disk_ids:
            return []
        told = node.file_id + self.disk_id_shift if self.has_file_ids else 0
        return [QueryOnDiskIdResponse(told, self.volume)]

    @staticmethod
    def _act(found: Node | None, request: CreateRequest) -> CreateAction:
        disposition = request.create_disposition
        if found is None:
            if disposition not in _MAKES:
                raise Refused(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
            return CreateAction.CREATED
        if disposition == Disposition.CREATE:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_COLLISION)
        if request.create_options & CreateOptions.DIRECTORY_FILE and not found.is_directory:
            raise Refused(ntstatus.STATUS_NOT_A_DIRECTORY)
        if request.create_options & CreateOptions.NON_DIRECTORY_FILE and found.is_directory:
            raise Refused(ntstatus.STATUS_FILE_IS_A_DIRECTORY)
        return CreateAction.OVERWRITTEN if disposition in _EMPTIES else CreateAction.OPENED

    def close(self, request: CloseRequest) -> CloseResponse:
        """[MS-SMB2] 3.3.5.10."""
        closed = self.opened(request.file_id)
        del self.opens[request.file_id]
        if closed.delete_on_close:
            closed.parent.children.pop(closed.node.name.casefold(), None)
        if not request.flags & CloseFlags.POSTQUERY_ATTRIB or not self.tells_at_close:
            return CloseResponse()
        return CloseResponse(
            flags=CloseFlags.POSTQUERY_ATTRIB,
            creation_time=SOME_TIME,
            last_access_time=SOME_TIME,
            last_write_time=closed.node.write_time,
            change_time=SOME_TIME,
            allocation_size=len(closed.node.data),
            end_of_file=len(closed.node.data),
            file_attributes=closed.node.attributes,
        )

    def read(self, file_id: FileId, offset: int, length: int) -> bytes:
        """[MS-SMB2] 3.3.5.12."""
        node = self.opened(file_id).node
        if node.is_pipe:
            return self._read_pipe(node, length)
        data = node.data
        if offset >= len(data) and length:
            raise Refused(ntstatus.STATUS_END_OF_FILE)
        return bytes(data[offset : offset + length])

    @staticmethod
    def _read_pipe(node: Node, length: int) -> bytes:
        piece, node.data = bytes(node.data[:length]), node.data[length:]
        if node.data:
            raise Refused(ntstatus.STATUS_BUFFER_OVERFLOW, piece)
        return piece

    def write(self, file_id: FileId, offset: int, data: bytes) -> int:
        """[MS-SMB2] 3.3.5.13."""
        content = self.opened(file_id).node.data
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        return len(data)

    def lock(self, file_id: FileId, elements: list[LockElement]) -> None:
        """[MS-SMB2] 3.3.5.14."""
        handle = self.opened(file_id)
        if not elements:
            raise Refused(ntstatus.STATUS_INVALID_PARAMETER)
        for element in elements:
            self.lock_calls.append((element.offset, element.length, element.flags))
            span = (element.offset, element.length)
            if element.flags & LockFlags.UNLOCK:
                if span not in handle.locks:
                    raise Refused(ntstatus.STATUS_RANGE_NOT_LOCKED)
                handle.locks.remove(span)
            else:
                handle.locks.append(span)

    def query_info(self, request: QueryInfoRequest) -> bytes:
        """[MS-SMB2] 3.3.5.20."""
        handle = self.opened(request.file_id)
        asked = (request.info_type, request.file_info_class)
        if asked == (InfoType.FILESYSTEM, FileFsFullSizeInformation.INFORMATION_CLASS):
            return FileFsFullSizeInformation(1000, 400, 500, 8, 512).encode()
        if asked == (InfoType.FILE, FileInformationClass.FileFullEaInformation):
            return self._eas(handle.node, request)
        if asked != (InfoType.FILE, FileAllInformation.INFORMATION_CLASS):
            raise Refused(ntstatus.STATUS_INVALID_INFO_CLASS)
        node = handle.node
        return FileAllInformation(
            creation_time=SOME_TIME,
            last_access_time=SOME_TIME,
            last_write_time=node.write_time,
            change_time=SOME_TIME,
            file_attributes=node.attributes,
            allocation_size=len(node.data),
            end_of_file=len(node.data),
            number_of_links=node.links,
            directory=node.is_directory,
            index_number=node.file_id if self.has_file_ids else 0,
            file_name=node.name,
        ).encode()

    def set_info(self, request: SetInfoRequest) -> None:
        """[MS-SMB2] 3.3.5.21."""
        handle = self.opened(request.file_id)
        buffer = memoryview(request.buffer)
        match request.file_info_class:
            case FileInformationClass.FileEndOfFileInformation:
                size = FileEndOfFileInformation.decode_untrusted(buffer).end_of_file
                handle.node.data = handle.node.data[:size].ljust(size, b"\0")
            case FileInformationClass.FileBasicInformation:
                basic = FileBasicInformation.decode_untrusted(buffer)
                handle.node.write_time = basic.last_write_time or handle.node.write_time
                handle.node.attributes = basic.file_attributes or handle.node.attributes
            case FileInformationClass.FileFullEaInformation:
                self._set_eas(handle.node, buffer)
            case FileInformationClass.FileDispositionInformation:
                disposition = FileDispositionInformation.decode_untrusted(buffer)
                handle.delete_on_close = disposition.delete_pending
                if handle.delete_on_close and handle.node.children:
                    raise Refused(ntstatus.STATUS_DIRECTORY_NOT_EMPTY)
            case FileInformationClass.FileRenameInformation:
                rename = FileRenameInformation.decode_untrusted(buffer)
                self._rename(handle, rename.file_name, rename.replace_if_exists)
            case FileInformationClass.FileLinkInformation:
                link = FileLinkInformation.decode_untrusted(buffer)
                parent, name = self._free_name(link.file_name, link.replace_if_exists)
                parent.children[name.casefold()] = handle.node
                handle.node.links += 1
            case _:
                raise Refused(ntstatus.STATUS_INVALID_INFO_CLASS)

    def _free_name(self, path: str, replace: bool) -> tuple[Node, str]:
        parent, name = self._parent_of(path)
        if name.casefold() in parent.children and not replace:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_COLLISION)
        return parent, name

    def _rename(self, handle: Open, path: str, replace: bool) -> None:
        parent, name = self._free_name(path, replace)
        handle.parent.children.pop(handle.node.name.casefold(), None)
        parent.children[name.casefold()] = handle.node
        handle.node.name, handle.parent = name, parent

    def query_directory(self, request: QueryDirectoryRequest) -> bytes:
        """[MS-SMB2] 3.3.5.18: as many further entries as fit, or the status that says there are none."""
        handle = self.opened(request.file_id)
        first = handle.listing is None
        if handle.listing is None:
            handle.listing = self._records(handle.node, request.pattern)
        count, size = 0, 0
        while count < len(handle.listing):
            record = handle.listing[count]
            size += align8(len(encode_directory(request.file_information_class, [record])))
            if size > request.output_buffer_length:
                break
            count += 1
        if not count:
            none_at_all = ntstatus.STATUS_NO_SUCH_FILE if first else ntstatus.STATUS_NO_MORE_FILES
            raise Refused(none_at_all)
        batch, handle.listing = handle.listing[:count], handle.listing[count:]
        return encode_directory(request.file_information_class, batch)

    def _records(self, folder: Node, pattern: str) -> list[DirectoryRecord]:
        named = [(node.name, node) for node in folder.children.values()]
        named += [(name, self.root) for name in self.hostile_names]
        if pattern == "*":
            named = [(".", folder), ("..", self.root), *named]
        return [
            DirectoryRecord(
                name,
                0,
                SOME_TIME,
                SOME_TIME,
                node.write_time,
                SOME_TIME,
                len(node.data),
                len(node.data),
                node.attributes,
                file_id=node.file_id,
            )
            for name, node in named
            if fnmatch.fnmatchcase(name.casefold(), pattern.casefold())
        ]

    def ioctl(self, file_id: FileId, code: int, data: memoryview) -> bytes:
        """[MS-SMB2] 3.3.5.15."""
        if self.controls.on_control is not None:
            output = self.controls.on_control(file_id, code, data)
            if output is not None:
                return output
        opened = [handle.node for handle in self.opens.values()]
        return self.controls.answer(code, data, self.opened(file_id).node, opened)

    @staticmethod
    def _eas(node: Node, request: QueryInfoRequest) -> bytes:
        if not node.eas:
            raise Refused(ntstatus.STATUS_NO_EAS_ON_FILE)
        names = list(node.eas)
        if request.input:
            names = decode_get_eas_untrusted(memoryview(request.input))
        return encode_full_eas([FileFullEaInformation(name, node.eas.get(name, b"")) for name in names])

    @staticmethod
    def _set_eas(node: Node, buffer: memoryview) -> None:
        for entry in decode_full_eas_untrusted(buffer):
            node.eas[entry.ea_name] = bytes(entry.ea_value)
            if not entry.ea_value:
                del node.eas[entry.ea_name]
