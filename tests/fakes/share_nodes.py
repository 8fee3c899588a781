"""The files and folders of the fake share, without its face: what changes when somebody changes something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine import Buffer, FileAttributes, FileStat, Lease, LeaseState, error_from_status, ntstatus

if TYPE_CHECKING:
    from tests.fakes.share import FakeShare
    from tests.fakes.share_files import FakeFile, FakeFolder


class Node:
    """A file or folder on the server."""

    def __init__(self, number: int, now: int, *, is_directory: bool) -> None:
        self.number = number
        self.data = bytearray()
        self.attributes = int(FileAttributes.DIRECTORY if is_directory else FileAttributes.ARCHIVE)
        self.created = self.accessed = self.written = self.changed = now
        self.children: dict[str, tuple[str, Node]] = {}
        self.eas: dict[str, bytes] = {}
        self.opens: list[FakeFile] = []
        self.listed_by: list[FakeFolder] = []
        self.names = 1
        self.delete_pending = False
        self.dated = False
        """Whether its time of writing was set through an open file: then writes leave it alone until the last
        close, as on Samba."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & FileAttributes.DIRECTORY)

    @property
    def is_kept_open(self) -> bool:
        """Whether a folder is open under a lease."""
        return any(opened.lease is not None for opened in self.listed_by)

    def stat(self, *, links: bool, file_id: bool = True) -> FileStat:
        """Its attributes; `links` as listings do not tell it."""
        size = len(self.data)
        return FileStat(
            file_id=self.number if file_id else 0,
            size=size,
            allocation_size=(size + 4095) // 4096 * 4096,
            attributes=self.attributes,
            creation_ns=self.created,
            access_ns=self.accessed,
            write_ns=self.written,
            change_ns=self.changed,
            number_of_links=self.names if links else 0,
            ea_size=sum(len(name) + len(value) + 9 for name, value in self.eas.items()),
        )


class FakeLease(Lease):
    """A lease, in place of the engine's; `acknowledged` are the states that were acknowledged."""

    def __init__(self, share: FakeShare, on_break: Callable[[Lease], None]) -> None:
        self.state = 0
        self.term = 0
        self.owed = False
        self.folder = None
        self.on_break = on_break
        self.acknowledged: list[int] = []
        self._share = share

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether another client waits."""
        return self.owed

    def grant(self, state: int) -> None:
        """The server vouches for more."""
        self.term += bool(state & ~self.state & LeaseState.READ_CACHING)
        self.state |= state

    async def acknowledge(self) -> None:
        """Tell the server, if it waits."""
        if self.owed:
            self.owed = False
            self.acknowledged.append(self.state)
            await self._share.enter("acknowledge", self.state)


class NodeTree:
    """All nodes of a share. Names compare without case; every look at the clock moves it on."""

    def __init__(self) -> None:
        self.next_number = 100
        self._now = 1_600_000_000 * 10**9
        self.root = self._new_node(is_directory=True)

    def put(self, path: str, data: bytes = b"") -> Node:
        """Make or replace a file as another client would, the folders above it too."""
        folder, name = self._make_folders(path)
        node = self._new_node(is_directory=False)
        node.data[:] = data
        folder.children[name.upper()] = (name, node)
        self._changed_folder(folder)
        return node

    def put_folder(self, path: str) -> Node:
        """Make a folder as another client would."""
        folder, name = self._make_folders(path)
        node = self._new_node(is_directory=True)
        folder.children[name.upper()] = (name, node)
        self._changed_folder(folder)
        return node

    def find(self, path: str) -> Node:
        """The node of a path; `NotFound`."""
        return self._walk(path)[2]

    def exists(self, path: str) -> bool:
        """Whether a path leads to something."""
        folder, key = self._split(path)
        return key in folder.children

    def names(self, path: str = "") -> list[str]:
        """The names in a folder, sorted."""
        return sorted(name for name, _ in self.find(path).children.values())

    def remove(self, path: str) -> None:
        """Remove a name as another client would."""
        folder, key = self._split(path)
        del folder.children[key]
        self._changed_folder(folder)

    def take_back(self, node: Node) -> None:
        """The next file made gets the number and times of this one: a quick server with a slow clock."""
        self.next_number, self._now = node.number - 1, node.created - 100

    def tick(self) -> int:
        """The server's clock; every look moves it on."""
        self._now += 100
        return self._now

    def resize(self, node: Node, size: int) -> None:
        """Cut or extend with zeros; the size that it has is no change."""
        if len(node.data) == size:
            return
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        node.changed = self.tick()
        if not node.dated:
            node.written = node.changed

    def apply_basic(
        self,
        node: Node,
        access_ns: int | None,
        write_ns: int | None,
        creation_ns: int | None,
        attributes: int | None,
    ) -> None:
        """FileBasicInformation."""
        node.accessed = access_ns if access_ns is not None else node.accessed
        node.written = write_ns if write_ns is not None else node.written
        node.created = creation_ns if creation_ns is not None else node.created
        if attributes:
            kind = node.attributes & FileAttributes.DIRECTORY
            node.attributes = (attributes & ~FileAttributes.NORMAL) | kind
        node.changed = self.tick()

    def changed_file(self, node: Node, lease: Lease | None = None) -> None:
        """A file was changed, by whoever has `lease`: the folders that it is in are different now."""
        for folder in self._folders(self.root):
            if any(child is node for _, child in folder.children.values()):
                self._changed_folder(folder, lease)

    def add_name(self, node: Node, new: str) -> None:
        """FileLinkInformation."""
        folder, key = self._split(new)
        if key in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, new)
        folder.children[key] = (new.rpartition("\\")[2], node)
        node.names += 1

    def apply_ea(self, node: Node, name: str, value: Buffer) -> None:
        """FileFullEaInformation."""
        for known in [known for known in node.eas if known.upper() == name.upper()]:
            del node.eas[known]
        if value:
            node.eas[name] = bytes(value)

    def finish_delete(self, node: Node) -> None:
        """The last close of a deleted file removes it."""
        if node.delete_pending and not node.opens:
            self._drop_pending(self.root, node)

    def _changed_folder(self, folder: Node, lease: Lease | None = None) -> None:
        """What is in a folder changed: its leases are broken, but for that which the change knew of."""
        known = lease.folder if lease is not None else None
        for held in {id(opened.lease): opened.lease for opened in folder.listed_by}.values():
            if isinstance(held, FakeLease) and held is not known and held.state:
                held.state, held.owed = 0, True
                held.on_break(held)

    def _folders(self, folder: Node) -> Iterator[Node]:
        yield folder
        for _, child in folder.children.values():
            if child.is_directory:
                yield from self._folders(child)

    def _new_node(self, *, is_directory: bool) -> Node:
        self.next_number += 1
        return Node(self.next_number, self.tick(), is_directory=is_directory)

    def _make_folders(self, path: str) -> tuple[Node, str]:
        *folders, name = path.split("\\")
        node = self.root
        for folder in folders:
            if folder.upper() not in node.children:
                node.children[folder.upper()] = (folder, self._new_node(is_directory=True))
            node = node.children[folder.upper()][1]
        return node, name

    def _split(self, path: str) -> tuple[Node, str]:
        """The folder that holds the path's last part, and that part's key."""
        *folders, name = path.split("\\")
        node = self.root
        for folder in folders:
            if folder.upper() not in node.children:
                raise error_from_status(ntstatus.STATUS_OBJECT_PATH_NOT_FOUND, path)
            node = node.children[folder.upper()][1]
        return node, name.upper()

    def _walk(self, path: str) -> tuple[Node, str, Node]:
        if not path:
            return self.root, "", self.root
        folder, key = self._split(path)
        if key not in folder.children:
            raise error_from_status(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND, path)
        node = folder.children[key][1]
        if node.delete_pending:
            raise error_from_status(ntstatus.STATUS_DELETE_PENDING, path)
        return folder, key, node

    def _check_delete(self, node: Node, path: str) -> None:
        if not all(file.shares_delete for file in node.opens):
            raise error_from_status(ntstatus.STATUS_SHARING_VIOLATION, path)

    def _has_open_below(self, node: Node) -> bool:
        if node.is_kept_open:
            return True
        return any(child.opens or self._has_open_below(child) for _, child in node.children.values())

    def _move(self, folder: Node, key: str, target: str) -> None:
        _, node = folder.children.pop(key)
        new_folder, new_key = self._split(target)
        new_folder.children[new_key] = (target.rpartition("\\")[2], node)
        folder.written = new_folder.written = self.tick()

    def _drop_pending(self, folder: Node, node: Node) -> None:
        for key, (_, child) in list(folder.children.items()):
            if child is node:
                del folder.children[key]
            else:
                self._drop_pending(child, node)
