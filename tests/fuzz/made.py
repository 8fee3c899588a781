"""Inputs for the targets that traffic with Samba does not reach: values of the unit tests, and texts."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from engine.crypto.sealing import Cipher
from engine.wire import (
    create_contexts,
    error,
    fscc_ea,
    fscc_quota,
    fscc_stream,
    ioctl,
    negotiate,
    notify,
    reparse,
    security,
)
from engine.wire.primitives import FileId
from smbmount.vfs import symlinks
from tests.fuzz.crypto_targets import sealer
from tests.fuzz.proto_targets import _AGREED
from tests.fuzz.table import BY_NAME
from tests.fuzz.target import name_of
from tests.unit.wire import messages, structures

_Value = TypeVar("_Value")

_EXAMPLES: Final = 5
_PROGRAMS: Final = ("proto.machine", "proto.leases")

_TEXTS: Final[dict[str, tuple[bytes, ...]]] = {
    "options": (
        b"username=user,password=a\\,b,domain=DOM,vers=3.1.1,seal",
        b"guest,ro,uid=0,gid=0,file_mode=0644,dir_mode=0755",
        b"user=DOM/me%secret,sign,rsize=65536,wsize=1048576,actimeo=1.5,cache=loose\0nosign",
        b"_netdev,noauto,x-systemd.automount,comment=a,sloppy,unknown=1,multichannel",
        b"credentials=/etc/file,ip=::1,port=445,symlinks=all,timeout=10,max_credits=100,echo-interval=5",
    ),
    "credentials": (
        b"username=user\npassword=a=b\ndomain=DOM\n",
        b"# a comment\r\n user = user\r\nPASS=\r\n\tworkgroup=W\r\n",
        "\ufeffusername=Jürgen\npassword=日本\n".encode(),
    ),
    "client.unc": (
        b"//server/share",
        b"\\\\server:4450\\share\\sub\\folder",
        b"//[fe80::1]:445/share/./a//b",
        b"//server/share/../other",
    ),
    "control": (
        b'{"command": "status"}',
        b'{"command": "cp", "source": ["a", "b"], "target": ["c"], "no_clobber": true, "keep_time": false}',
        b'{"command": "cp", "source": ["\\udcff"], "target": ["\\ud800", 1, null]}',
    ),
    "ctl": (
        b'\0{"done": 5, "total": 10}',
        b'\1{"ok": false, "kind": "refused", "error": "no"}',
        b'\0{"ok": true, "source": "//s/d", "mountpoint": "/mnt", "pid": 7, "connection": {"lost": false, '
        b'"summary": "SMB 3.1.1", "address": "127.0.0.1", "max_read": 65536, "max_write": 65536}, '
        b'"file_system": {"dirty_bytes": 0, "open_files": 1, "inodes": 2}, "statistics": {"trips": '
        b'{"ECHO": 3}, "bytes_sent": 5, "bytes_received": 6, "in_flight": 0, "most_in_flight": 1, '
        b'"credits": 5, "round_trips": 9}}',
    ),
    "mounttable": (
        b"36 35 0:50 / /mnt\\040a rw,nosuid shared:1 - fuse.smbmount //s/d rw,user_id=0,group_id=0\n",
        b"22 1 8:1 / / rw - ext4 /dev/root rw\nnonsense\n",
    ),
    "vfs.symlinks": (symlinks.encode(b"../target"), symlinks.encode(bytes([65]) * 1024), b"a/b", b"/a"),
    "vfs.contained": (b"\0..", b"\2../../a", b"\3a/../..", b"\1./../b//c"),
    "vfs.names": tuple(
        name.encode("utf-16-le", "surrogatepass")
        for name in (
            "a",
            "a/b",
            "..",
            "CON",
            "\ud800",
            "\uf022\uf029",
            "\uf020\uf028x",
            "ü" * 127,
            "\ud800\udc00",
        )
    ),
    "vfs.names_encoded": (
        b"a",
        b'a:b*c?"<>|',
        b"dot.",
        b"space ",
        b"\xed\xa0\x80",
        b"\xed\xa0\x80\xed\xb0\x80",
        "Größe 日本".encode(),
        b"\\\x01",
    ),
}

_BODY: Final = bytes(64)
_SID: Final = security.Sid(5, (32, 544))
_LINK: Final = reparse.SymbolicLink("target", "target").encode()
_ENCODED: Final[dict[str, tuple[bytes, ...]]] = {
    "wire.error.decode_required_length": (error.encode_required_length(70_000),),
    "wire.fscc_ea.FileFullEaInformation": (fscc_ea.FileFullEaInformation(b"NAME", b"value").encode(),),
    "wire.fscc_quota.FileQuotaInformation": (fscc_quota.FileQuotaInformation(_SID, 5, 6, 7).encode(),),
    "wire.fscc_stream.FileStreamInformation": (fscc_stream.FileStreamInformation(":a:$DATA").encode(),),
    "wire.ioctl.NetworkInterfaceInfo": tuple(
        ioctl.NetworkInterfaceInfo(1, 3, 10**9, address).encode()
        for address in (None, IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))
    ),
    "wire.notify.LeaseBreakAcknowledgement": (
        _BODY + notify.LeaseBreakAcknowledgement(bytes(16), 1).encode(),
    ),
    "wire.notify.LeaseBreakNotification": (_BODY + notify.LeaseBreakNotification(bytes(16), 7, 1).encode(),),
    "wire.notify.OplockBreak": (_BODY + notify.OplockBreak(FileId(1, 2), 1).encode(),),
    "wire.primitives.EmptyBody": (_BODY + b"\4\0\0\0",),
    "wire.primitives.decode_utf16": ("text \ud800".encode("utf-16-le", "surrogatepass"),),
    "wire.reparse.SymbolicLink.decode_data": (_LINK[8:],),
    "wire.reparse.MountPoint.decode_data": (reparse.MountPoint("a", "b").encode()[8:],),
    "wire.reparse.LxSymlink.decode_data": (reparse.LxSymlink("target").encode()[8:],),
    "wire.reparse.NfsSpecialFile.decode_data": tuple(
        reparse.NfsSpecialFile(kind, "target", 1, 2).encode()[8:] for kind in reparse.NfsType
    ),
    "wire.security.Ace": (
        security.Ace(0, 3, 0x1F01FF, _SID).encode(),
        security.Ace(5, 3, 0x1F01FF, _SID, UUID(int=1), UUID(int=2), b"more").encode(),
        security.Ace(0xFF, extra=b"unknown").encode(),
    ),
    "wire.transform.CompressionTransformHeader": (b"\xfcSMB" + bytes(12),),
    "wire.transform.frame_kind": (b"\xfeSMB", b"\xfdSMB", b"\xfcSMB"),
}


def inputs(target: str) -> list[bytes]:
    """Some inputs for a target, the same each time but for the sealed ones; none for what has no form."""
    if target in _TEXTS or target in _ENCODED:
        return list(_TEXTS.get(target) or _ENCODED[target])
    if target in _PROGRAMS:
        return [_program(target, size) for size in (5, 10, 20, 40, 80)]
    if target.startswith("crypto."):
        return _sealed(target)
    if target == "proto.validation":
        return [bytes.fromhex("7f000000") + _AGREED.server_guid.bytes_le + bytes.fromhex("01000003")]
    strategy = _strategies().get(target)
    return sorted(set(_examples(strategy)), key=len) if strategy is not None else _contexts(target)


def _program(target: str, size: int) -> bytes:
    """One that the server gets to the end of: most are stopped by the first thing that makes no sense."""
    chooser = random.Random(f"{target} {size}")
    while not BY_NAME[target](program := chooser.randbytes(size)):
        pass
    return program


def _sealed(target: str) -> list[bytes]:
    message = bytes(64) + b"a message"
    if target == "crypto.unseal":
        return [
            bytes((index,)) + b"".join(sealer(cipher).seal([message])) for index, cipher in enumerate(Cipher)
        ]
    return [bytes((index, 5, 0, index & 1)) + message for index in range(len(Cipher))]


def _strategies() -> dict[str, SearchStrategy[bytes]]:
    """Values of the unit tests' lists, encoded, by the target of the decoder that takes them."""
    by_decoder: dict[str, SearchStrategy[bytes]] = {}
    for decode, cases in (
        *((case.decode, case.examples) for case in messages.CASES),
        *((codec.decode, codec.cases) for codec in structures.CODECS),
    ):
        by_decoder[name_of(decode)] = cases.map(lambda pair: pair[1])
    return {
        name: by_decoder[decoder]
        for name, target in BY_NAME.items()
        for decoder in target.covers
        if decoder in by_decoder
    }


def _contexts(target: str) -> list[bytes]:
    """The contexts of NEGOTIATE and CREATE, which the unit tests make in lists only."""
    kind = target.rpartition(".")[2]
    module = {"negotiate": negotiate, "create_contexts": create_contexts}.get(target.split(".")[-2])
    if module is None or not hasattr(module, kind):
        return []
    strategies: tuple[SearchStrategy[messages.Encodable], ...] = (
        messages.negotiate_contexts,
        messages.request_contexts,
        messages.response_contexts,
    )
    values = [value for strategy in strategies for value in _examples(strategy, 150)]
    return sorted({value.encode() for value in values if type(value).__name__ == kind}, key=len)[:_EXAMPLES]


def _examples(strategy: SearchStrategy[_Value], count: int = _EXAMPLES) -> list[_Value]:
    found: list[_Value] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: _Value) -> None:
        found.append(value)

    take()
    return found
