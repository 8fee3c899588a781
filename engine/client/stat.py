"""What the engine tells of files, folders and volumes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.wire.constants import CloseFlags, FileAttributes
from engine.wire.create import CloseResponse, CreateResponse
from engine.wire.create_contexts import QueryOnDiskIdResponse
from engine.wire.fscc import FileAllInformation
from engine.wire.fscc_directory import DirectoryRecord
from engine.wire.primitives import filetime_to_ns

_DIRECTORY = int(FileAttributes.DIRECTORY)


@dataclass(slots=True)
class FileStat:
    """A file's attributes. Times are nanoseconds since 1970, sizes bytes.

    `file_id` is the server's number for the file, 0 if it has none. `attributes` is a set of
    `FileAttributes` bits. The details, `number_of_links` and `ea_size` (bytes of extended attributes),
    are 0 and None where the source does not tell them: CREATE and CLOSE neither, listings no links.
    """

    file_id: int
    size: int
    allocation_size: int
    attributes: int
    creation_ns: int
    access_ns: int
    write_ns: int
    change_ns: int
    number_of_links: int = 0
    reparse_tag: int = 0
    ea_size: int | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & _DIRECTORY)


@dataclass(slots=True)
class DirectoryEntry:
    """One name of a listing, as the server sent it: the caller checks it before use."""

    name: str
    stat: FileStat


@dataclass(slots=True, frozen=True)
class VolumeSize:
    """A volume's room in allocation units of `bytes_per_unit` ([MS-FSCC] 2.5.4)."""

    total_units: int
    free_units: int
    caller_free_units: int
    bytes_per_unit: int


def stat_from_create(response: CreateResponse, file_id: int) -> FileStat:
    """What a CREATE response tells ([MS-SMB2] 2.2.14); `file_id` comes from its context, or is 0."""
    return FileStat(
        file_id=file_id,
        size=response.end_of_file,
        allocation_size=response.allocation_size,
        attributes=response.file_attributes,
        creation_ns=filetime_to_ns(response.creation_time),
        access_ns=filetime_to_ns(response.last_access_time),
        write_ns=filetime_to_ns(response.last_write_time),
        change_ns=filetime_to_ns(response.change_time),
    )


def stat_of_created(response: CreateResponse) -> FileStat:
    """The same where the CREATE asked for the on-disk id ([MS-SMB2] 2.2.14.2.9); 0 if that was not told."""
    ids = [context for context in response.contexts if isinstance(context, QueryOnDiskIdResponse)]
    return stat_from_create(response, ids[0].disk_file_id if ids else 0)


def stat_from_all(info: FileAllInformation) -> FileStat:
    """What FileAllInformation tells ([MS-FSCC] 2.4.2)."""
    return FileStat(
        file_id=info.index_number,
        size=info.end_of_file,
        allocation_size=info.allocation_size,
        attributes=info.file_attributes,
        creation_ns=filetime_to_ns(info.creation_time),
        access_ns=filetime_to_ns(info.last_access_time),
        write_ns=filetime_to_ns(info.last_write_time),
        change_ns=filetime_to_ns(info.change_time),
        number_of_links=info.number_of_links,
        ea_size=info.ea_size,
    )


def stat_at_close(stat: FileStat, response: CloseResponse) -> FileStat | None:
    """`stat`, of the same file, with what a CLOSE tells ([MS-SMB2] 2.2.16); None if it does not tell.

    Some servers keep the time of a write back until then.
    """
    if not response.flags & CloseFlags.POSTQUERY_ATTRIB:
        return None
    return replace(
        stat,
        size=response.end_of_file,
        allocation_size=response.allocation_size,
        attributes=response.file_attributes,
        creation_ns=filetime_to_ns(response.creation_time),
        access_ns=filetime_to_ns(response.last_access_time),
        write_ns=filetime_to_ns(response.last_write_time),
        change_ns=filetime_to_ns(response.change_time),
    )


def entry_from_listing(record: DirectoryRecord) -> DirectoryEntry:
    """What one entry of a listing tells ([MS-FSCC] 2.4.22)."""
    return DirectoryEntry(
        record.file_name,
        FileStat(
            record.file_id,
            record.end_of_file,
            record.allocation_size,
            record.file_attributes,
            filetime_to_ns(record.creation_time),
            filetime_to_ns(record.last_access_time),
            filetime_to_ns(record.last_write_time),
            filetime_to_ns(record.change_time),
            0,
            record.reparse_point_tag,
            record.ea_size,
        ),
    )
