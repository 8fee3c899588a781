"""The file system: what the adapter to the kernel calls, put together from its parts."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import trio

from smbmount.vfs.config import FileSystemConfig as FileSystemConfig
from smbmount.vfs.copies import Copies
from smbmount.vfs.core import Core
from smbmount.vfs.directories import Directories
from smbmount.vfs.errors import PosixError
from smbmount.vfs.files import Files
from smbmount.vfs.inodes import Inode
from smbmount.vfs.kernel import KernelCache, NoKernel
from smbmount.vfs.metadata import Metadata
from smbmount.vfs.namespace import Namespace
from smbmount.vfs.prefetch import FilesAhead
from smbmount.vfs.remote import RemoteShare
from smbmount.vfs.renames import Renames
from smbmount.vfs.xattrs import ExtendedAttributes


class FileSystem:
    """One mounted share. After `start()` its parts hold the operations, in POSIX words.

    Numbers of inodes and handles are the kernel's; names are its bytes. Every operation raises
    `PosixError` or the engine's errors. Background work runs in `nursery`, which must outlive the mount.
    """

    core: Core
    names: Namespace
    renames: Renames
    files: Files
    files_ahead: FilesAhead
    folders: Directories
    metadata: Metadata
    xattrs: ExtendedAttributes
    copies: Copies

    def __init__(
        self,
        share: RemoteShare,
        config: FileSystemConfig,
        nursery: trio.Nursery,
        kernel: KernelCache | None = None,
    ) -> None:
        self._share = share
        self._config = config
        self._nursery = nursery
        self._kernel = kernel or NoKernel()

    @property
    def config(self) -> FileSystemConfig:
        """How it is shown."""
        return self._config

    async def start(self) -> None:
        """Look at the root; `PosixError` ENOTDIR if it is no folder, or the engine's error."""
        asked_at = trio.current_time()
        root = await self._share.stat("")
        if not root.is_directory:
            raise PosixError(errno.ENOTDIR, "what is to be mounted is a file, not a folder")
        self.core = Core(self._share, self._config, root, self._nursery.start_soon, self._kernel)
        self.core.inodes.root.fresh_until = asked_at + self._config.attribute_timeout_directory
        self.folders = Directories(self.core)
        self.names = Namespace(self.core, self.folders)
        self.renames = Renames(self.core, self.names)
        self.files = Files(self.core)
        self.files_ahead = FilesAhead(
            self.core, self.folders.enter, self.files.opening.fetch_ahead, self.folders.ahead.behind
        )
        self.files.on_open = self._note_open
        self.metadata = Metadata(self.core, self.files)
        self.xattrs = ExtendedAttributes(self.core)
        self.copies = Copies(self.core, self.names, self.renames)

    def _note_open(self, inode: Inode, foreseen: bool) -> None:
        self.files_ahead.note_open(inode, foreseen)
        if inode.names:
            self.folders.note_used(inode.names[-1].parent)

    def counts(self) -> dict[str, int]:
        """How much is known, open and unwritten, for those who look at the mount."""
        core = self.core
        return {
            "inodes": len(core.inodes),
            "open_files": len(core.files.all()),
            "dirty_bytes": core.write_budget.used,
        }

    def kept(self) -> dict[str, int]:
        """How many handles are kept on the server for their next use, though no program has them open."""
        core = self.core
        return {"files": len(core.idle) + len(core.late), "folders": len(core.folder_leases)}

    def held(self) -> dict[str, int]:
        """What is there only while programs use the mount: nothing of it may be left when all is closed."""
        core = self.core
        return {
            "open_files": len(core.files.all()),
            "kept_files": len(core.idle) + len(core.late),
            "dirty_bytes": core.write_budget.used,
            "fetched_bytes": core.read_budget.used,
        }

    def prefetch_statistics(self) -> dict[str, int]:
        """Listings fetched ahead: how many were used (of these, waited for), were not, are on their way, and
        the entries of those that were not used yet; small files: how many were used and were not."""
        ahead, files = self.folders.ahead, self.files_ahead
        return {
            "files_used": files.rate.used,
            "files_unused": files.rate.unused,
            "used": ahead.rate.used,
            "waited_for": ahead.waits,
            "unused": ahead.rate.unused,
            "in_flight": ahead.in_flight,
            "entries": ahead.entries,
        }

    async def shutdown(self) -> None:
        """Write all data and close everything; the caller bounds the time.

        Raises the first error that says that written data is lost, once all that can be done is done.
        """
        await self.files_ahead.close()
        try:
            await self.files.close_all()
        finally:
            await self.folders.close_all()
            self.core.folder_leases.close_all()

    def forget(self, lookups: Iterable[tuple[int, int]]) -> None:
        """The kernel forgets inodes: pairs of number and look-up count."""
        for number, count in lookups:
            self.core.inodes.forget(number, count)
