"""Inputs of any size for what takes lists, names or text: as much as a server can put into so many bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from engine.crypto.sealing import Cipher
from engine.wire.dfs import DfsReferral, DfsReferralResponse
from engine.wire.error import ErrorContext, ErrorResponse
from engine.wire.fscc_directory import DirectoryRecord, encode_directory
from engine.wire.fscc_ea import FileFullEaInformation, encode_full_eas, encode_get_eas
from engine.wire.fscc_quota import FileQuotaInformation, encode_get_quotas, encode_quotas
from engine.wire.fscc_stream import FileStreamInformation, encode_streams
from engine.wire.header import Header
from engine.wire.io import LockElement, LockRequest, ReadResponse
from engine.wire.ioctl import NetworkInterfaceInfo, SnapshotsResponse, encode_network_interfaces
from engine.wire.negotiate import SigningCapabilities
from engine.wire.notify import ChangeNotifyResponse, FileNotifyInformation
from engine.wire.primitives import FileId
from engine.wire.reparse import LxSymlink
from engine.wire.security import Ace, Acl, SecurityDescriptor, Sid
from smbmount.vfs import symlinks
from tests.fuzz.crypto_targets import sealer
from tests.fuzz.wire_targets import DIRECTORY_CLASSES

Grower = Callable[[int], bytes]
"""Makes an input of `n` entries, characters or whatever there can be many of."""

_HEAD: Final = Header(0).encode()
_SID: Final = Sid(5, (1, 2))


def _compound(n: int) -> bytes:
    """As many messages as there can be in a frame."""
    return b"".join(Header(0, next_command=64 if i + 1 < n else 0).encode() for i in range(n))


def _negotiate(n: int) -> bytes:
    """Empty contexts of a type that nobody knows."""
    body = bytearray(
        struct.pack("<HHHH16xIIIIQQHHI", 65, 0, 0x0311, n, 0, 65536, 65536, 65536, 0, 0, 0, 0, 128)
    )
    return _HEAD + bytes(body) + struct.pack("<HHI", 0xFF, 0, 0) * n


def _create_contexts(n: int) -> bytes:
    entry = struct.pack("<IHHHHI4s4x", 24, 16, 4, 0, 0, 0, b"UNKN")
    return entry * (n - 1) + struct.pack("<I", 0) + entry[4:]


def _dfs_shared(n: int) -> bytes:
    """Every entry's three strings are the one, long string at the end."""
    text = "x" * n
    size = 22
    entries = b"".join(
        struct.pack("<HHHHIIHHH", 2, size, 0, 0, 0, 0, *[(n - index) * size] * 3) for index in range(n)
    )
    return struct.pack("<HHI", 0, n, 0) + entries + text.encode("utf-16-le") + b"\0\0"


def _dfs_overlapping(n: int) -> bytes:
    """Every entry's string is the rest of one long string, which would be quadratic."""
    size = 22
    entries = b"".join(
        struct.pack("<HHHHIIHHH", 2, size, 0, 0, 0, 0, *[(n - index) * size + 2 * index] * 3)
        for index in range(n)
    )
    return struct.pack("<HHI", 0, n, 0) + entries + "x".encode("utf-16-le") * n + b"\0\0"


def _dfs_names(n: int) -> bytes:
    names = tuple("a" for _ in range(n))
    return DfsReferralResponse(
        0, 0, (DfsReferral(3, referral_entry_flags=2, special_name="s", expanded_names=names),)
    ).encode()


def _dfs_odd(n: int) -> bytes:
    """Zeros wherever no string can end."""
    return struct.pack("<HHI", 0, 1, 0) + struct.pack("<HHHH", 1, 8, 0, 0) + b"x\0" * n + b"x"


def _directory(n: int) -> bytes:
    records = [DirectoryRecord("name", short_name="n") for _ in range(n)]
    return b"\4" + encode_directory(DIRECTORY_CLASSES[4], records)


def _listing(n: int) -> bytes:
    buffer = encode_directory(DIRECTORY_CLASSES[4], [DirectoryRecord("name") for _ in range(n)])
    return _HEAD + struct.pack("<HHI", 9, 72, len(buffer)) + buffer


def _notify(n: int) -> bytes:
    return _HEAD + ChangeNotifyResponse([FileNotifyInformation(1, "") for _ in range(n)]).encode()


def _descriptor(n: int) -> bytes:
    acl = Acl([Ace(0xFF) for _ in range(n)])
    return SecurityDescriptor(_SID, _SID, acl, acl).encode()


def _sealed(n: int) -> bytes:
    return b"\1" + b"".join(sealer(Cipher.AES_128_GCM).seal([bytes(n + 1)]))


GROWERS: Final[dict[str, tuple[Grower, ...]]] = {
    "wire.header.compound": (_compound,),
    "proto.frame": (_compound,),
    "wire.negotiate.NegotiateResponse": (_negotiate,),
    "proto.negotiation": (lambda n: b"\4\0" + _negotiate(n),),
    "wire.negotiate.SigningCapabilities": (lambda n: SigningCapabilities([1] * n).encode(),),
    "wire.create_contexts.decode_response_contexts": (_create_contexts,),
    "wire.create_contexts.decode_request_contexts": (_create_contexts,),
    "wire.error.ErrorResponse": (
        lambda n: _HEAD + ErrorResponse(contexts=[ErrorContext(b"") for _ in range(min(n, 255))]).encode(),
        lambda n: _HEAD + ErrorResponse(bytes(n)).encode(),
    ),
    "wire.fscc_directory": (_directory,),
    "client.listing": (_listing,),
    "wire.fscc_chain": (lambda n: b"\0" + struct.pack("<I", 4) * n,),
    "wire.fscc_ea.decode_full_eas": (
        lambda n: encode_full_eas([FileFullEaInformation(b"a") for _ in range(n)]),
        lambda n: encode_full_eas([FileFullEaInformation(b"a", bytes(n))]),
    ),
    "client.extended_attributes": (
        lambda n: encode_full_eas([FileFullEaInformation(b"%d" % i) for i in range(n)]),
    ),
    "wire.fscc_ea.decode_get_eas": (lambda n: encode_get_eas([b"a"] * n),),
    "wire.fscc_stream.decode_streams": (
        lambda n: encode_streams([FileStreamInformation("") for _ in range(n)]),
    ),
    "wire.fscc_quota.decode_quotas": (lambda n: encode_quotas([FileQuotaInformation(_SID)] * n),),
    "wire.fscc_quota.decode_get_quotas": (lambda n: encode_get_quotas([_SID] * n),),
    "wire.ioctl.decode_network_interfaces": (
        lambda n: encode_network_interfaces([NetworkInterfaceInfo(1, 0, 0, None)] * n),
    ),
    "wire.ioctl.SnapshotsResponse": (lambda n: SnapshotsResponse(["a"] * n).encode(),),
    "wire.fscc_control.decode_allocated_ranges": (lambda n: bytes(16 * n),),
    "wire.io.LockRequest": (
        lambda n: _HEAD + LockRequest(FileId(1, 1), [LockElement(0, 0, 0)] * n).encode(),
    ),
    "wire.io.ReadResponse": (lambda n: _HEAD + ReadResponse(bytes(n)).encode(),),
    "wire.notify.ChangeNotifyResponse": (_notify,),
    "wire.security.Acl": (lambda n: Acl([Ace(0xFF)] * n).encode(),),
    "wire.security.SecurityDescriptor": (_descriptor,),
    "wire.reparse.decode_reparse": (lambda n: LxSymlink("x" * n).encode(),),
    "wire.primitives.decode_utf16": (lambda n: b"\0\xd8" * n,),
    "wire.dfs.DfsReferralResponse": (_dfs_shared, _dfs_overlapping, _dfs_names, _dfs_odd),
    "crypto.unseal": (_sealed,),
    "client.log_on": (
        lambda n: struct.pack("<H", min(n, 0xFFFF)) + b"\x60\x80" * (n // 2 + 1),
        lambda n: struct.pack("<H", min(n, 0xFFFF)) + b"\xa1\x82\xff\xff\x30" * (n // 5 + 1),
    ),
    "client.unc": (
        lambda n: b"//s/d" + b"/a" * n,
        lambda n: b"//" + b":" * n + b"/d",
        lambda n: b"//[" + b"]" * n,
    ),
    "options": (lambda n: b"ro," * n, lambda n: b"password=" + b"\\," * n, lambda n: b"user=" + b"%" * n),
    "credentials": (lambda n: b"user=a\n" * n, lambda n: b" " * n, lambda n: b"password=" + b"=" * n),
    "control": (
        lambda n: b"[" * n,
        lambda n: b'{"command": "cp", "source": [' + b'"a",' * n + b'"a"], "target": ["b"]}',
    ),
    "ctl": (lambda n: b"\0" + b"[" * n, lambda n: b'\0{"done": ' + b"9" * n + b', "total": 9}'),
    "mounttable": (lambda n: b"1 2 0:1 / /m rw - fuse //s rw\n" * n, lambda n: b"\\040" * n),
    "vfs.symlinks": (lambda n: symlinks.encode(b"x" * min(n, 1024)), lambda n: b"../" * n),
    "vfs.names": (lambda n: b"\x22\xf0" * n, lambda n: b"\x29\xf0" * n),
    "vfs.names_encoded": (lambda n: b"a" * n, lambda n: b"*" * min(n, 255)),
}
"""By target. Those that are not here take a fixed structure, or the program of a test."""
