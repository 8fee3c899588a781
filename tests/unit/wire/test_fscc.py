"""Information classes against bytes written down by hand from [MS-FSCC] 2.4 and 2.5."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileIdInformation,
    FileNetworkOpenInformation,
    FileStandardInformation,
)
from engine.wire.fscc_chain import join_chain, split_chain_untrusted
from engine.wire.fscc_ea import (
    FileFullEaInformation,
    decode_full_eas_untrusted,
    decode_get_eas_untrusted,
    encode_full_eas,
    encode_get_eas,
)
from engine.wire.fscc_pipe import PipeWaitRequest
from engine.wire.fscc_quota import FileQuotaInformation, QueryQuotaInfo, decode_quotas_untrusted
from engine.wire.fscc_set import (
    DispositionFlags,
    FileDispositionInformation,
    FileDispositionInformationEx,
    FileEndOfFileInformation,
    FileLinkInformation,
    FileRenameInformation,
    FileRenameInformationEx,
    RenameFlags,
)
from engine.wire.fscc_stream import FileStreamInformation, decode_streams_untrusted
from engine.wire.fscc_volume import (
    FileFsAttributeInformation,
    FileFsFullSizeInformation,
    FileFsObjectIdInformation,
    FileFsSizeInformation,
    FileFsVolumeInformation,
    FileSystemAttributes,
)
from engine.wire.security import Sid

BASIC = bytes.fromhex(
    "0100000000000000 0200000000000000 0300000000000000 ffffffffffffffff 20000000 00000000".replace(" ", "")
)
STANDARD = bytes.fromhex("0010000000000000 0500000000000000 02000000 01 00 0000".replace(" ", ""))
ALL = (
    BASIC
    + STANDARD
    + bytes.fromhex("0807060504030201")
    + bytes.fromhex("30000000 a9011200 0700000000000000 40000000 01000000".replace(" ", ""))
    + struct.pack("<I", 8)
    + "\\a.b".encode("utf-16-le")
)


def test_basic_information() -> None:
    information = FileBasicInformation(1, 2, 3, -1, 0x20)
    assert information.encode() == BASIC
    assert FileBasicInformation.decode_untrusted(memoryview(BASIC)) == information


def test_standard_information() -> None:
    information = FileStandardInformation(4096, 5, 2, delete_pending=True, directory=False)
    assert information.encode() == STANDARD
    assert FileStandardInformation.decode_untrusted(memoryview(STANDARD)) == information


def test_all_information() -> None:
    information = FileAllInformation.decode_untrusted(memoryview(ALL))
    assert information.encode() == ALL
    assert (information.change_time, information.file_attributes) == (-1, 0x20)
    assert (information.allocation_size, information.end_of_file) == (4096, 5)
    assert information.delete_pending
    assert not information.directory
    assert information.index_number == 0x0102030405060708
    assert (information.ea_size, information.access_flags) == (0x30, 0x1201A9)
    assert (information.current_byte_offset, information.mode) == (7, 0x40)
    assert information.file_name == "\\a.b"


@pytest.mark.parametrize(("kept", "name"), [(8, "\\a.b"), (5, "\\a"), (4, "\\a"), (1, ""), (0, "")])
def test_the_name_in_all_information_may_be_cut(kept: int, name: str) -> None:
    cut = ALL[: len(ALL) - 8 + kept]
    assert FileAllInformation.decode_untrusted(memoryview(cut)).file_name == name


def test_all_information_needs_its_fixed_part() -> None:
    with pytest.raises(RemoteProtocolError):
        FileAllInformation.decode_untrusted(memoryview(ALL)[:99])


def test_all_information_with_an_odd_name() -> None:
    with pytest.raises(RemoteProtocolError):
        FileAllInformation.decode_untrusted(memoryview(ALL[:96] + struct.pack("<I", 3) + ALL[100:]))


@pytest.mark.parametrize("offset", [0, 8])
def test_sizes_are_never_negative(offset: int) -> None:
    negative = bytearray(STANDARD)
    negative[offset : offset + 8] = b"\xff" * 8
    with pytest.raises(RemoteProtocolError):
        FileStandardInformation.decode_untrusted(memoryview(negative))
    whole = bytearray(ALL)
    whole[40 + offset : 48 + offset] = b"\xff" * 8
    with pytest.raises(RemoteProtocolError):
        FileAllInformation.decode_untrusted(memoryview(whole))


def test_network_open_information_has_the_allocation_before_the_size() -> None:
    information = FileNetworkOpenInformation(1, 2, 3, 4, 4096, 5, 0x20)
    assert information.encode() == struct.pack("<6qII", 1, 2, 3, 4, 4096, 5, 0x20, 0)


def test_id_information() -> None:
    file_id = 0x0F0E0D0C0B0A09080706050403020100
    assert FileIdInformation(1, file_id).encode() == struct.pack("<Q", 1) + bytes(range(16))


def test_end_of_file_at_the_very_end() -> None:
    assert FileEndOfFileInformation((1 << 63) - 1).encode() == b"\xff" * 7 + b"\x7f"


def test_dispositions() -> None:
    assert FileDispositionInformation().encode() == b"\1"
    assert FileDispositionInformation(False).encode() == b"\0"
    flags = DispositionFlags.DELETE | DispositionFlags.POSIX_SEMANTICS
    assert FileDispositionInformationEx(flags).encode() == b"\3\0\0\0"


def test_rename_information() -> None:
    encoded = FileRenameInformation("dir\\b", replace_if_exists=True).encode()
    assert encoded == b"\1" + bytes(15) + struct.pack("<I", 10) + "dir\\b".encode("utf-16-le")


def test_a_short_target_is_padded_to_what_windows_takes() -> None:
    encoded = FileRenameInformation("b").encode()
    assert encoded == bytes(16) + struct.pack("<I", 2) + b"b\0\0\0"
    assert FileRenameInformation.decode_untrusted(memoryview(encoded)) == FileRenameInformation("b")
    assert len(FileLinkInformation("b").encode()) == 24


def test_reserved_bytes_after_the_boolean_mean_nothing() -> None:
    encoded = bytearray(FileRenameInformation("name").encode())
    encoded[1:8] = b"\xff" * 7
    assert FileRenameInformation.decode_untrusted(memoryview(encoded)) == FileRenameInformation("name")


def test_rename_information_ex() -> None:
    flags = RenameFlags.REPLACE_IF_EXISTS | RenameFlags.POSIX_SEMANTICS
    assert FileRenameInformationEx("ab", flags).encode()[:4] == b"\3\0\0\0"


def test_pipe_wait() -> None:
    encoded = PipeWaitRequest("p", timeout=-10).encode()
    assert encoded == struct.pack("<qIBB", -10, 2, 1, 0) + b"p\0"
    assert PipeWaitRequest("p").encode() == struct.pack("<qIBB", 0, 2, 0, 0) + b"p\0"


EAS = bytes.fromhex("10000000 00 03 0200 612e62 00 7879 0000 00000000 80 01 0000 7a 00".replace(" ", ""))


def test_full_ea_list() -> None:
    eas = [FileFullEaInformation(b"a.b", b"xy"), FileFullEaInformation(b"z", b"", 0x80)]
    assert encode_full_eas(eas) == EAS
    assert decode_full_eas_untrusted(memoryview(EAS)) == eas
    assert decode_full_eas_untrusted(memoryview(b"")) == []


def test_get_ea_list() -> None:
    encoded = bytes.fromhex("0c000000 03 612e62 00 000000 00000000 01 7a 00".replace(" ", ""))
    assert encode_get_eas([b"a.b", b"z"]) == encoded
    assert decode_get_eas_untrusted(memoryview(encoded)) == [b"a.b", b"z"]


@pytest.mark.parametrize("name", [b"", b"a" * 256, b"a\0b"])
def test_names_that_no_extended_attribute_can_have(name: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        FileFullEaInformation(name, b"x").encode()
    with pytest.raises(LocalProtocolError):
        encode_get_eas([name])


def test_values_that_no_extended_attribute_can_have() -> None:
    assert len(FileFullEaInformation(b"a", bytes(65_535)).encode()) == 8 + 2 + 65_535
    with pytest.raises(LocalProtocolError):
        FileFullEaInformation(b"a", bytes(65_536)).encode()


def test_an_ea_value_that_reaches_into_the_next_entry() -> None:
    longer = bytearray(EAS)
    longer[6] = 5
    with pytest.raises(RemoteProtocolError):
        decode_full_eas_untrusted(memoryview(longer))


def test_streams() -> None:
    main, other = "::$DATA".encode("utf-16-le"), ":s:$DATA".encode("utf-16-le")
    encoded = struct.pack("<IIqq", 40, 14, 5, 4096) + main + bytes(2)
    encoded += struct.pack("<IIqq", 0, 16, 1, 8) + other
    assert decode_streams_untrusted(memoryview(encoded)) == [
        FileStreamInformation("::$DATA", 5, 4096),
        FileStreamInformation(":s:$DATA", 1, 8),
    ]


ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")


def test_quotas() -> None:
    entry = struct.pack("<IIqqqq", 0, 16, 9, 100, -1, -2) + ADMINISTRATORS
    (quota,) = decode_quotas_untrusted(memoryview(entry))
    assert quota == FileQuotaInformation(Sid.from_string("S-1-5-32-544"), 100, -1, -2, 9)
    assert quota.encode() == entry


def test_quota_query() -> None:
    sid = Sid.from_string("S-1-5-32-544")
    by_list = QueryQuotaInfo(restart_scan=True, sids=(sid,)).encode()
    assert by_list == struct.pack("<BBHIII", 0, 1, 0, 24, 0, 0) + struct.pack("<II", 0, 16) + ADMINISTRATORS
    from_one = QueryQuotaInfo(return_single=True, start_sid=sid).encode()
    assert from_one == struct.pack("<BBHIII", 1, 0, 0, 0, 16, 0) + ADMINISTRATORS
    with pytest.raises(LocalProtocolError):
        QueryQuotaInfo(sids=(sid,), start_sid=sid).encode()


def test_volume_information() -> None:
    encoded = struct.pack("<qIIBB", 5, 0xCAFE, 6, 1, 0) + "vol".encode("utf-16-le")
    information = FileFsVolumeInformation(5, 0xCAFE, True, "vol")
    assert information.encode() == encoded
    assert FileFsVolumeInformation.decode_untrusted(memoryview(encoded)) == information


def test_volume_sizes() -> None:
    assert FileFsSizeInformation(10, 4, 8, 512).encode() == struct.pack("<qqII", 10, 4, 8, 512)
    encoded = struct.pack("<qqqII", 10, 3, 4, 8, 512)
    assert FileFsFullSizeInformation.decode_untrusted(memoryview(encoded)) == FileFsFullSizeInformation(
        10, 3, 4, 8, 512
    )
    with pytest.raises(RemoteProtocolError):
        FileFsFullSizeInformation.decode_untrusted(memoryview(struct.pack("<qqqII", 10, -3, 4, 8, 512)))


def test_volume_attributes() -> None:
    attributes = FileSystemAttributes.SUPPORTS_SPARSE_FILES | FileSystemAttributes.UNICODE_ON_DISK
    encoded = struct.pack("<IiI", 0x44, 255, 8) + "NTFS".encode("utf-16-le")
    assert FileFsAttributeInformation(attributes).encode() == encoded


def test_volume_object_id() -> None:
    object_id = UUID("00112233-4455-6677-8899-aabbccddeeff")
    encoded = FileFsObjectIdInformation(object_id).encode()
    assert encoded == bytes.fromhex("33221100554477668899aabbccddeeff") + bytes(48)
    with pytest.raises(LocalProtocolError):
        FileFsObjectIdInformation(object_id, b"short").encode()


def _chain(*steps: int, total: int) -> memoryview:
    buffer = bytearray(total)
    position = 0
    for step in steps:
        struct.pack_into("<I", buffer, position, step)
        position += step
    return memoryview(buffer)


def test_a_chain_is_cut_where_its_entries_say() -> None:
    entries = list(split_chain_untrusted(_chain(16, 13, total=40), 8, "x"))
    assert [len(entry) for entry in entries] == [16, 13, 11]


@pytest.mark.parametrize(
    ("step", "total"),
    [
        pytest.param(4, 40, id="into itself"),
        pytest.param(7, 40, id="just short of its own end"),
        pytest.param(41, 40, id="past the end"),
        pytest.param(36, 40, id="leaves too little for the last"),
        pytest.param(0xFFFFFFF0, 40, id="backwards, were it signed"),
        pytest.param(0, 7, id="too short for one entry"),
        pytest.param(0, 3, id="too short for the offset"),
    ],
)
def test_chains_that_are_refused(step: int, total: int) -> None:
    buffer = struct.pack("<I", step).ljust(total, b"\0")[:total]
    with pytest.raises(RemoteProtocolError):
        list(split_chain_untrusted(memoryview(buffer), 8, "x"))


def test_a_chain_that_ends_where_the_buffer_does() -> None:
    assert len(list(split_chain_untrusted(_chain(20, 20, total=40), 8, "x"))) == 2


def test_joining_pads_all_but_the_last() -> None:
    assert join_chain([b"\0\0\0\0a", b"\0\0\0\0bc"], 8) == b"\x08\0\0\0a\0\0\0" + b"\0\0\0\0bc"
    assert join_chain([], 8) == b""
