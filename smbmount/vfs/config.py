"""What the person who mounts may choose about the file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FileSystemConfig:
    """How the share is shown. Times are seconds, sizes bytes, modes permission bits.

    `max_read` and `max_write` lower what the share allows per request. `server_inode_numbers` takes the
    server's file ids for `st_ino`. `symlinks`: `contain` keeps targets inside the mount, `all` trusts
    them, `none` shows links as the plain files they are and makes none. `cache="none"` reads and writes
    through; `"loose"` keeps the kernel's pages as long as size and times are unchanged, `"strict"` only
    while the server vouches for them. `close_timeout` is how long the handle of a closed file or a
    listed folder is kept for the next use, where the server lets us. `prefetch` fetches ahead what
    walks and readers are foreseen to ask for. `statfs_timeout` is how
    long the volume's room is taken for known.
    """

    uid: int = 0
    gid: int = 0
    file_mode: int = 0o755
    dir_mode: int = 0o755
    attribute_timeout_file: float = 1.0
    attribute_timeout_directory: float = 1.0
    map_names: bool = True
    mfsymlinks: bool = True
    symlinks: Literal["contain", "all", "none"] = "contain"
    server_inode_numbers: bool = True
    read_only: bool = False
    cache: Literal["strict", "none", "loose"] = "strict"
    close_timeout: float = 10.0
    prefetch: bool = True
    max_read: int | None = None
    max_write: int | None = None
    statfs_timeout: float = 5.0

    @property
    def shows_symlinks(self) -> bool:
        """Whether symbolic links are made and read at all."""
        return self.mfsymlinks and self.symlinks != "none"
