"""Every structure that QUERY_INFO, SET_INFO, QUERY_DIRECTORY and IOCTL carry, with values to try it on.

The round-trip, truncation and mutation tests run over this one list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from engine.wire import (
    dfs,
    fscc,
    fscc_control,
    fscc_ea,
    fscc_pipe,
    fscc_quota,
    fscc_set,
    fscc_stream,
    fscc_volume,
    ioctl,
    ntlm_challenge,
    reparse,
    security,
)
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_directory import (
    DirectoryRecord,
    decode_directory_untrusted,
    encode_directory,
)
from engine.wire.primitives import FileId

u8: Final = st.integers(0, 0xFF)
u16: Final = st.integers(0, 0xFFFF)
u32: Final = st.integers(0, 0xFFFF_FFFF)
u64: Final = st.integers(0, (1 << 64) - 1)
i64: Final = st.integers(-(1 << 63), (1 << 63) - 1)
size: Final = st.integers(0, (1 << 63) - 1)
guid: Final = st.uuids()


def _as_sent(text: str) -> str:
    """Two surrogates that meet become one character on the wire."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


_character: Final = st.characters() | st.characters(categories=["Cs"])
text: Final = st.text(_character, max_size=12).map(_as_sent)
text_without_nul: Final = text.map(lambda value: value.replace("\0", "0"))


class Structure(Protocol):
    def encode(self) -> bytes: ...

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self: ...


class Encodes(Protocol):
    def encode(self) -> bytes: ...


S = TypeVar("S", bound=Structure)
T = TypeVar("T")


@dataclass(frozen=True)
class Codec:
    """A structure by name: values with their bytes, and how to read them.

    `tight`: no byte at the end can be missed, so every truncation is an error.
    """

    name: str
    cases: SearchStrategy[tuple[object, bytes]]
    decode: Callable[[memoryview], object]
    tight: bool


def _codec(
    name: str,
    values: SearchStrategy[T],
    encode: Callable[[T], bytes],
    decode: Callable[[memoryview], object],
    *,
    tight: bool = True,
) -> Codec:
    return Codec(name, values.map(lambda value: (value, encode(value))), decode, tight)


def _encode(value: Encodes) -> bytes:
    return value.encode()


def _plain(kind: type[S], values: SearchStrategy[S], *, tight: bool = True) -> Codec:
    return _codec(kind.__name__, values, _encode, kind.decode_untrusted, tight=tight)


_sids: Final = st.builds(security.Sid, st.integers(0, (1 << 48) - 1), st.lists(u32, max_size=15).map(tuple))
_plain_aces: Final = st.builds(
    security.Ace,
    st.sampled_from([0, 1, 2, 9, 0x11, 0x12]),
    u8,
    u32,
    _sids,
    extra=st.binary(max_size=8),
)
_object_aces: Final = st.builds(
    security.Ace,
    st.sampled_from([5, 6, 7, 0x0B]),
    u8,
    u32,
    _sids,
    st.none() | guid,
    st.none() | guid,
    st.binary(max_size=8),
)
_unknown_aces: Final = st.builds(
    security.Ace, st.sampled_from([4, 0x14, 0xFF]), u8, extra=st.binary(max_size=8)
)
_acls: Final = st.builds(
    security.Acl,
    st.lists(_plain_aces | _object_aces | _unknown_aces, max_size=4).map(tuple),
    st.sampled_from([2, 4]),
)


def _descriptor(
    owner: security.Sid | None,
    group: security.Sid | None,
    dacl: security.Acl | None,
    sacl: security.Acl | None,
    control: int,
    resource_manager: int,
) -> security.SecurityDescriptor:
    control |= 0x8000 | (4 if dacl is not None else 0) | (0x10 if sacl is not None else 0)
    return security.SecurityDescriptor(owner, group, dacl, sacl, control, resource_manager)


_descriptors: Final = st.builds(
    _descriptor,
    st.none() | _sids,
    st.none() | _sids,
    st.none() | _acls,
    st.none() | _acls,
    u16,
    u8,
)

_REPARSE_POINT: Final = 0x400


def _records(information_class: FileInformationClass) -> SearchStrategy[list[DirectoryRecord]]:
    """Records that hold what the class can carry, and nothing else."""
    if information_class == FileInformationClass.FileNamesInformation:
        return st.lists(st.builds(DirectoryRecord, text, u32), min_size=1, max_size=5)
    strategies: dict[str, SearchStrategy[object]] = {}
    name = information_class.name
    if information_class != FileInformationClass.FileDirectoryInformation:
        strategies["ea_size"] = u32
    if "Both" in name:
        strategies["short_name"] = st.text(st.characters(max_codepoint=0x7F), max_size=12)
    if "Id" in name:
        strategies["file_id"] = st.integers(0, (1 << 128) - 1) if "Extd" in name else u64

    def with_tag(record: DirectoryRecord) -> DirectoryRecord:
        if "ea_size" in strategies and record.file_attributes & _REPARSE_POINT:
            record.reparse_point_tag, record.ea_size = record.ea_size, 0
        return record

    plain = (text, u32, i64, i64, i64, i64, size, size, u32)
    return st.lists(st.builds(DirectoryRecord, *plain, **strategies).map(with_tag), min_size=1, max_size=5)


def _directory(information_class: FileInformationClass) -> Codec:
    return _codec(
        f"directory-{information_class.name}",
        _records(information_class),
        lambda records: encode_directory(information_class, records),
        lambda view: decode_directory_untrusted(information_class, view),
    )


DIRECTORY_CLASSES: Final = (
    FileInformationClass.FileDirectoryInformation,
    FileInformationClass.FileFullDirectoryInformation,
    FileInformationClass.FileIdFullDirectoryInformation,
    FileInformationClass.FileBothDirectoryInformation,
    FileInformationClass.FileIdBothDirectoryInformation,
    FileInformationClass.FileIdExtdDirectoryInformation,
    FileInformationClass.FileNamesInformation,
)

_times: Final = (i64, i64, i64, i64)

_FILE: Final = (
    _plain(fscc.FileBasicInformation, st.builds(fscc.FileBasicInformation, *_times, u32)),
    _plain(
        fscc.FileStandardInformation,
        st.builds(fscc.FileStandardInformation, size, size, u32, st.booleans(), st.booleans()),
    ),
    _plain(fscc.FileInternalInformation, st.builds(fscc.FileInternalInformation, u64)),
    _plain(fscc.FileIdInformation, st.builds(fscc.FileIdInformation, u64, st.integers(0, (1 << 128) - 1))),
    _plain(fscc.FileEaInformation, st.builds(fscc.FileEaInformation, u32)),
    _plain(fscc.FileAccessInformation, st.builds(fscc.FileAccessInformation, u32)),
    _plain(fscc.FilePositionInformation, st.builds(fscc.FilePositionInformation, i64)),
    _plain(fscc.FileModeInformation, st.builds(fscc.FileModeInformation, u32)),
    _plain(fscc.FileAlignmentInformation, st.builds(fscc.FileAlignmentInformation, u32)),
    _plain(fscc.FileAttributeTagInformation, st.builds(fscc.FileAttributeTagInformation, u32, u32)),
    _plain(
        fscc.FileCompressionInformation, st.builds(fscc.FileCompressionInformation, size, u16, u8, u8, u8)
    ),
    _plain(
        fscc.FileNetworkOpenInformation,
        st.builds(fscc.FileNetworkOpenInformation, *_times, size, size, u32),
    ),
    _plain(
        fscc.FileAllInformation,
        st.builds(
            fscc.FileAllInformation,
            *_times,
            u32,
            size,
            size,
            u32,
            st.booleans(),
            st.booleans(),
            u64,
            u32,
            u32,
            i64,
            u32,
            u32,
            text,
        ),
        # A name that was cut is as much as there is.
        tight=False,
    ),
    _plain(fscc.FileNormalizedNameInformation, st.builds(fscc.FileNormalizedNameInformation, text)),
    _plain(fscc.FileAlternateNameInformation, st.builds(fscc.FileAlternateNameInformation, text)),
    _plain(fscc_pipe.FilePipeInformation, st.builds(fscc_pipe.FilePipeInformation, u32, u32)),
    _plain(fscc_pipe.FilePipeLocalInformation, st.builds(fscc_pipe.FilePipeLocalInformation, *[u32] * 10)),
    _plain(fscc_pipe.PipeWaitRequest, st.builds(fscc_pipe.PipeWaitRequest, text, st.none() | i64)),
    _plain(fscc_set.FileEndOfFileInformation, st.builds(fscc_set.FileEndOfFileInformation, i64)),
    _plain(fscc_set.FileAllocationInformation, st.builds(fscc_set.FileAllocationInformation, i64)),
    _plain(fscc_set.FileValidDataLengthInformation, st.builds(fscc_set.FileValidDataLengthInformation, i64)),
    _plain(
        fscc_set.FileDispositionInformation, st.builds(fscc_set.FileDispositionInformation, st.booleans())
    ),
    _plain(fscc_set.FileDispositionInformationEx, st.builds(fscc_set.FileDispositionInformationEx, u32)),
    # A short name is followed by padding, which may be missing.
    _plain(
        fscc_set.FileRenameInformation,
        st.builds(fscc_set.FileRenameInformation, text, st.booleans(), u64),
        tight=False,
    ),
    _plain(
        fscc_set.FileRenameInformationEx,
        st.builds(fscc_set.FileRenameInformationEx, text, u32, u64),
        tight=False,
    ),
    _plain(
        fscc_set.FileLinkInformation,
        st.builds(fscc_set.FileLinkInformation, text, st.booleans(), u64),
        tight=False,
    ),
    _plain(
        fscc_set.FileLinkInformationEx,
        st.builds(fscc_set.FileLinkInformationEx, text, u32, u64),
        tight=False,
    ),
)

_ea_names: Final = st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"0"))
_quotas: Final = st.builds(fscc_quota.FileQuotaInformation, _sids, i64, i64, i64, i64)
_quota_queries: Final = st.builds(
    fscc_quota.QueryQuotaInfo,
    st.booleans(),
    st.booleans(),
    st.lists(_sids, min_size=1, max_size=3).map(tuple),
) | st.builds(fscc_quota.QueryQuotaInfo, st.booleans(), st.booleans(), start_sid=st.none() | _sids)

# A list may lose its entries from the end and still be one, so these are not tight.
_LISTS: Final = (
    *map(_directory, DIRECTORY_CLASSES),
    _codec(
        "FileFullEaInformation",
        st.lists(st.builds(fscc_ea.FileFullEaInformation, _ea_names, st.binary(max_size=20), u8), max_size=4),
        fscc_ea.encode_full_eas,
        fscc_ea.decode_full_eas_untrusted,
        tight=False,
    ),
    _codec(
        "FILE_GET_EA_INFORMATION",
        st.lists(_ea_names, max_size=4),
        fscc_ea.encode_get_eas,
        fscc_ea.decode_get_eas_untrusted,
        tight=False,
    ),
    _codec(
        "FileStreamInformation",
        st.lists(st.builds(fscc_stream.FileStreamInformation, text, size, size), max_size=4),
        fscc_stream.encode_streams,
        fscc_stream.decode_streams_untrusted,
        tight=False,
    ),
    _codec(
        "FileQuotaInformation",
        st.lists(_quotas, max_size=3),
        fscc_quota.encode_quotas,
        fscc_quota.decode_quotas_untrusted,
        tight=False,
    ),
    _codec(
        "FILE_GET_QUOTA_INFORMATION",
        st.lists(_sids, max_size=3),
        fscc_quota.encode_get_quotas,
        fscc_quota.decode_get_quotas_untrusted,
        tight=False,
    ),
    _plain(fscc_quota.QueryQuotaInfo, _quota_queries),
)

_VOLUME: Final = (
    _plain(
        fscc_volume.FileFsVolumeInformation,
        st.builds(fscc_volume.FileFsVolumeInformation, i64, u32, st.booleans(), text),
    ),
    _plain(
        fscc_volume.FileFsSizeInformation,
        st.builds(fscc_volume.FileFsSizeInformation, size, size, u32, u32),
    ),
    _plain(
        fscc_volume.FileFsFullSizeInformation,
        st.builds(fscc_volume.FileFsFullSizeInformation, size, size, size, u32, u32),
    ),
    _plain(
        fscc_volume.FileFsAttributeInformation,
        st.builds(fscc_volume.FileFsAttributeInformation, u32, st.integers(0, (1 << 31) - 1), text),
    ),
    _plain(fscc_volume.FileFsDeviceInformation, st.builds(fscc_volume.FileFsDeviceInformation, u32, u32)),
    _plain(
        fscc_volume.FileFsControlInformation,
        st.builds(fscc_volume.FileFsControlInformation, i64, i64, i64, u64, u64, u32),
    ),
    _plain(
        fscc_volume.FileFsSectorSizeInformation,
        st.builds(fscc_volume.FileFsSectorSizeInformation, *[u32] * 7),
    ),
    _plain(
        fscc_volume.FileFsObjectIdInformation,
        st.builds(fscc_volume.FileFsObjectIdInformation, guid, st.binary(min_size=48, max_size=48)),
    ),
)

_SECURITY: Final = (
    _plain(security.Sid, _sids),
    _plain(security.Acl, _acls),
    # The last part is padded to four bytes, which may be missing.
    _plain(security.SecurityDescriptor, _descriptors, tight=False),
)

_keys: Final = st.binary(min_size=24, max_size=24)
_chunks: Final = st.builds(ioctl.CopyChunk, u64, u64, u32)


def _snapshots(names: Sequence[str]) -> ioctl.SnapshotsResponse:
    array_size = 2 * (sum(len(name) + 1 for name in names) + 1)
    return ioctl.SnapshotsResponse(tuple(names), len(names), array_size)


_ascii: Final = st.characters(min_codepoint=0x20, max_codepoint=0x7F)
_snapshot_names: Final = st.text(_ascii, min_size=1, max_size=9)
_some_ranges: Final = st.lists(
    st.builds(fscc_control.AllocatedRange, st.integers(0, 1 << 62), st.integers(0, 1 << 61)), max_size=4
)

_IOCTL: Final = (
    _plain(
        ioctl.ValidateNegotiateInfoRequest,
        st.builds(ioctl.ValidateNegotiateInfoRequest, u32, guid, u16, st.lists(u16, max_size=5).map(tuple)),
    ),
    _plain(
        ioctl.ValidateNegotiateInfoResponse,
        st.builds(ioctl.ValidateNegotiateInfoResponse, u32, guid, u16, u16),
    ),
    _codec(
        "QUERY_NETWORK_INTERFACE_INFO",
        st.lists(
            st.builds(ioctl.NetworkInterfaceInfo, u32, u32, u64, st.none() | st.ip_addresses()), max_size=4
        ),
        ioctl.encode_network_interfaces,
        ioctl.decode_network_interfaces_untrusted,
        tight=False,
    ),
    _plain(ioctl.ResumeKeyResponse, st.builds(ioctl.ResumeKeyResponse, _keys, st.binary(max_size=8))),
    _plain(
        ioctl.CopyChunkRequest,
        st.builds(ioctl.CopyChunkRequest, _keys, st.lists(_chunks, max_size=4).map(tuple)),
    ),
    _plain(ioctl.CopyChunkResponse, st.builds(ioctl.CopyChunkResponse, u32, u32, u32)),
    _plain(
        ioctl.SnapshotsResponse,
        st.lists(_snapshot_names, min_size=1, max_size=4).map(_snapshots)
        | st.builds(ioctl.SnapshotsResponse, st.just(()), u32, u32),
    ),
    _plain(ioctl.NetworkResiliencyRequest, st.builds(ioctl.NetworkResiliencyRequest, u32)),
    # No bytes at all mean sparse.
    _plain(
        fscc_control.SetSparseRequest, st.builds(fscc_control.SetSparseRequest, st.booleans()), tight=False
    ),
    _plain(fscc_control.SetZeroDataRequest, st.builds(fscc_control.SetZeroDataRequest, i64, i64)),
    _codec(
        "QUERY_ALLOCATED_RANGES",
        _some_ranges,
        fscc_control.encode_allocated_ranges,
        fscc_control.decode_allocated_ranges_untrusted,
        tight=False,
    ),
    _plain(
        fscc_control.FileLevelTrimRequest,
        st.builds(
            fscc_control.FileLevelTrimRequest,
            st.lists(st.builds(fscc_control.TrimRange, u64, u64), max_size=4).map(tuple),
        ),
    ),
    _plain(fscc_control.FileLevelTrimResponse, st.builds(fscc_control.FileLevelTrimResponse, u32)),
    _plain(
        fscc_control.DuplicateExtentsRequest,
        st.builds(fscc_control.DuplicateExtentsRequest, st.builds(FileId, u64, u64), i64, i64, i64),
    ),
)

_symbolic_links: Final = st.builds(reparse.SymbolicLink, text, text, u32)
_nfs_files: Final = (
    st.builds(reparse.NfsSpecialFile, st.just(int(reparse.NfsType.SYMLINK)), text)
    | st.builds(
        reparse.NfsSpecialFile,
        st.sampled_from([int(reparse.NfsType.BLOCK_DEVICE), int(reparse.NfsType.CHARACTER_DEVICE)]),
        major=u32,
        minor=u32,
    )
    | st.builds(
        reparse.NfsSpecialFile, st.sampled_from([int(reparse.NfsType.FIFO), int(reparse.NfsType.SOCKET)])
    )
)
_other_points: Final = st.builds(
    reparse.OtherReparsePoint,
    st.sampled_from([0x80000013, 0x80000024, 0x9000001A]),
    st.binary(max_size=20),
) | st.builds(reparse.OtherReparsePoint, st.integers(0, 0x7FFFFFFF), st.binary(max_size=20), guid)


def _reparse(name: str, values: SearchStrategy[reparse.ReparsePoint]) -> Codec:
    return _codec(f"reparse-{name}", values, _encode, reparse.decode_reparse_untrusted)


_REPARSE: Final = (
    _reparse("symlink", _symbolic_links),
    _reparse("mount-point", st.builds(reparse.MountPoint, text, text)),
    _reparse("nfs", _nfs_files),
    _reparse("lx", st.builds(reparse.LxSymlink, st.text(st.characters(codec="utf-8"), max_size=12))),
    _reparse("other", _other_points),
)

_targets: Final = st.builds(
    dfs.DfsReferral,
    st.just(1),
    text_without_nul,
    server_type=u16,
    referral_entry_flags=u16,
) | st.builds(
    dfs.DfsReferral,
    st.just(2),
    text_without_nul,
    text_without_nul,
    text_without_nul,
    u16,
    u16,
    u32,
    u32,
)
_targets_with_site: Final = st.builds(
    dfs.DfsReferral,
    st.sampled_from([3, 4]),
    text_without_nul,
    text_without_nul,
    text_without_nul,
    u16,
    st.sampled_from([0, 4]),
    u32,
    service_site_guid=guid,
)
_name_lists: Final = st.builds(
    dfs.DfsReferral,
    st.sampled_from([3, 4]),
    server_type=u16,
    referral_entry_flags=st.just(2),
    time_to_live=u32,
    special_name=text_without_nul,
    expanded_names=st.lists(text_without_nul, max_size=3).map(tuple),
)

_DFS: Final = (
    _plain(ntlm_challenge.ChallengeMessage, st.builds(ntlm_challenge.ChallengeMessage, text, text)),
    _plain(dfs.DfsReferralRequest, st.builds(dfs.DfsReferralRequest, text_without_nul, u16)),
    _plain(dfs.DfsReferralRequestEx, st.builds(dfs.DfsReferralRequestEx, text, st.none() | text, u16)),
    _plain(
        dfs.DfsReferralResponse,
        st.builds(
            dfs.DfsReferralResponse,
            u16,
            u32,
            st.lists(_targets | _targets_with_site | _name_lists, max_size=4).map(tuple),
        ),
    ),
)

CODECS: Final[tuple[Codec, ...]] = (
    *_FILE,
    *_LISTS,
    *_VOLUME,
    *_SECURITY,
    *_IOCTL,
    *_REPARSE,
    *_DFS,
)
