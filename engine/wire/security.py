"""Who may do what: SIDs, access control lists and security descriptors ([MS-DTYP] 2.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Final, Self
from uuid import UUID

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.primitives import slice_checked, unpack_checked

_REVISION: Final = 1
_SUB_AUTHORITIES_MAX: Final = 15
_AUTHORITY_SIZE: Final = 6


@dataclass(frozen=True, slots=True)
class Sid:
    """A user, group or machine ([MS-DTYP] 2.4.2); `str()` is its usual form, "S-1-5-…"."""

    identifier_authority: int
    sub_authorities: tuple[int, ...] = ()

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BB6x")

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read "S-1-5-32-544" ([MS-DTYP] 2.4.2.1); raise `ValueError` if it is not one."""
        parts = text.split("-")
        if len(parts) < 3 or parts[0] not in ("S", "s") or parts[1] != "1":
            raise ValueError(f"{text!r} is not a SID")
        try:
            authority = int(parts[2], 16 if parts[2][:2] in ("0x", "0X") else 10)
            subs = tuple(int(part) for part in parts[3:])
        except ValueError:
            raise ValueError(f"{text!r} is not a SID") from None
        is_in_range = 0 <= authority < 1 << 48 and all(0 <= sub < 1 << 32 for sub in subs)
        if not is_in_range or len(subs) > _SUB_AUTHORITIES_MAX:
            raise ValueError(f"{text!r} is not a SID")
        return cls(authority, subs)

    def __str__(self) -> str:
        authority = self.identifier_authority
        shown = str(authority) if authority < 1 << 32 else f"0x{authority:012X}"
        return "-".join(("S-1", shown, *map(str, self.sub_authorities)))

    @property
    def size(self) -> int:
        """The bytes that `encode` makes."""
        return self._LAYOUT.size + 4 * len(self.sub_authorities)

    def encode(self) -> bytes:
        count = len(self.sub_authorities)
        if count > _SUB_AUTHORITIES_MAX:
            raise LocalProtocolError(f"a SID has at most {_SUB_AUTHORITIES_MAX} sub-authorities")
        authority = self.identifier_authority.to_bytes(_AUTHORITY_SIZE, "big")
        return bytes((_REVISION, count)) + authority + struct.pack(f"<{count}I", *self.sub_authorities)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the SID that `view` begins with; `size` says where it ends."""
        revision, count = unpack_checked(cls._LAYOUT, view, 0, "SID")
        if revision != _REVISION or count > _SUB_AUTHORITIES_MAX:
            raise RemoteProtocolError(f"SID of revision {revision} with {count} sub-authorities")
        subs = slice_checked(view, cls._LAYOUT.size, 4 * count, "SID")
        return cls(int.from_bytes(view[2:8], "big"), struct.unpack(f"<{count}I", subs))


class AceType(IntEnum):
    """What an ACE does ([MS-DTYP] 2.4.4.1)."""

    ACCESS_ALLOWED = 0x00
    ACCESS_DENIED = 0x01
    SYSTEM_AUDIT = 0x02
    SYSTEM_ALARM = 0x03
    ACCESS_ALLOWED_COMPOUND = 0x04
    ACCESS_ALLOWED_OBJECT = 0x05
    ACCESS_DENIED_OBJECT = 0x06
    SYSTEM_AUDIT_OBJECT = 0x07
    SYSTEM_ALARM_OBJECT = 0x08
    ACCESS_ALLOWED_CALLBACK = 0x09
    ACCESS_DENIED_CALLBACK = 0x0A
    ACCESS_ALLOWED_CALLBACK_OBJECT = 0x0B
    ACCESS_DENIED_CALLBACK_OBJECT = 0x0C
    SYSTEM_AUDIT_CALLBACK = 0x0D
    SYSTEM_ALARM_CALLBACK = 0x0E
    SYSTEM_AUDIT_CALLBACK_OBJECT = 0x0F
    SYSTEM_ALARM_CALLBACK_OBJECT = 0x10
    SYSTEM_MANDATORY_LABEL = 0x11
    SYSTEM_RESOURCE_ATTRIBUTE = 0x12
    SYSTEM_SCOPED_POLICY_ID = 0x13


class AceFlags(IntFlag):
    """Inheritance and auditing ([MS-DTYP] 2.4.4.1)."""

    OBJECT_INHERIT = 0x01
    CONTAINER_INHERIT = 0x02
    NO_PROPAGATE_INHERIT = 0x04
    INHERIT_ONLY = 0x08
    INHERITED = 0x10
    SUCCESSFUL_ACCESS = 0x40
    FAILED_ACCESS = 0x80


_OBJECT_TYPE_PRESENT: Final = 0x1
_INHERITED_OBJECT_TYPE_PRESENT: Final = 0x2

_OBJECT_ACES: Final[frozenset[int]] = frozenset(
    {
        AceType.ACCESS_ALLOWED_OBJECT,
        AceType.ACCESS_DENIED_OBJECT,
        AceType.SYSTEM_AUDIT_OBJECT,
        AceType.SYSTEM_ALARM_OBJECT,
        AceType.ACCESS_ALLOWED_CALLBACK_OBJECT,
        AceType.ACCESS_DENIED_CALLBACK_OBJECT,
        AceType.SYSTEM_AUDIT_CALLBACK_OBJECT,
        AceType.SYSTEM_ALARM_CALLBACK_OBJECT,
    }
)
_PLAIN_ACES: Final[frozenset[int]] = frozenset(AceType) - _OBJECT_ACES - {AceType.ACCESS_ALLOWED_COMPOUND}


@dataclass(frozen=True, slots=True)
class Ace:
    """One entry of a list ([MS-DTYP] 2.4.4).

    `extra` is what follows the SID (a condition, an attribute, padding). A type that is unknown here
    has no SID, and `extra` is all of its body: it goes back to the server as it came.
    """

    ace_type: int
    ace_flags: int = 0
    access_mask: int = 0
    sid: Sid | None = None
    object_type: UUID | None = None
    inherited_object_type: UUID | None = None
    extra: bytes = b""

    _HEADER: ClassVar[struct.Struct] = struct.Struct("<BBH")
    _MASK: ClassVar[struct.Struct] = struct.Struct("<I")

    def encode(self) -> bytes:
        body = self._encode_body() + self.extra
        return self._HEADER.pack(self.ace_type, self.ace_flags, self._HEADER.size + len(body)) + body

    def _encode_body(self) -> bytes:
        if self.ace_type not in _PLAIN_ACES and self.ace_type not in _OBJECT_ACES:
            return b""
        if self.sid is None:
            raise LocalProtocolError(f"an ACE of type {self.ace_type} names somebody")
        mask = self._MASK.pack(self.access_mask)
        if self.ace_type in _PLAIN_ACES:
            return mask + self.sid.encode()
        flags, guids = 0, b""
        if self.object_type is not None:
            flags, guids = _OBJECT_TYPE_PRESENT, self.object_type.bytes_le
        if self.inherited_object_type is not None:
            flags |= _INHERITED_OBJECT_TYPE_PRESENT
            guids += self.inherited_object_type.bytes_le
        return mask + self._MASK.pack(flags) + guids + self.sid.encode()

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode one ACE, which ends where `view` does."""
        ace_type, flags, _ = unpack_checked(cls._HEADER, view, 0, "ACE")
        if ace_type not in _PLAIN_ACES and ace_type not in _OBJECT_ACES:
            return cls(ace_type, flags, extra=bytes(view[cls._HEADER.size :]))
        (mask,) = unpack_checked(cls._MASK, view, 4, "ACE")
        position = 8
        object_type = inherited_object_type = None
        if ace_type in _OBJECT_ACES:
            (present,) = unpack_checked(cls._MASK, view, position, "ACE")
            position += cls._MASK.size
            if present & _OBJECT_TYPE_PRESENT:
                object_type = UUID(bytes_le=bytes(slice_checked(view, position, 16, "ACE")))
                position += 16
            if present & _INHERITED_OBJECT_TYPE_PRESENT:
                inherited_object_type = UUID(bytes_le=bytes(slice_checked(view, position, 16, "ACE")))
                position += 16
        sid = Sid.decode_untrusted(view[position:])
        extra = bytes(view[position + sid.size :])
        return cls(ace_type, flags, mask, sid, object_type, inherited_object_type, extra)


@dataclass(frozen=True, slots=True)
class Acl:
    """A list of ACEs in the order in which they count ([MS-DTYP] 2.4.5); revision 4 has object ACEs."""

    aces: Sequence[Ace] = ()
    acl_revision: int = 2

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BxHH2x")

    def encode(self) -> bytes:
        body = b"".join(ace.encode() for ace in self.aces)
        size = self._LAYOUT.size + len(body)
        if size > 0xFFFF:
            raise LocalProtocolError(f"an ACL of {size} bytes is too long")
        return self._LAYOUT.pack(self.acl_revision, size, len(self.aces)) + body

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the ACL that `view` begins with."""
        revision, size, count = unpack_checked(cls._LAYOUT, view, 0, "ACL")
        if size < cls._LAYOUT.size:
            raise RemoteProtocolError(f"ACL of {size} bytes, less than its header")
        inside = slice_checked(view, 0, size, "ACL")
        aces: list[Ace] = []
        position = cls._LAYOUT.size
        for _ in range(count):
            _, _, ace_size = unpack_checked(Ace._HEADER, inside, position, "ACE")
            aces.append(Ace.decode_untrusted(slice_checked(inside, position, ace_size, "ACE")))
            position += ace_size
        return cls(tuple(aces), revision)


class SecurityDescriptorControl(IntFlag):
    """Which parts there are and where they came from ([MS-DTYP] 2.4.6)."""

    OWNER_DEFAULTED = 0x0001
    GROUP_DEFAULTED = 0x0002
    DACL_PRESENT = 0x0004
    DACL_DEFAULTED = 0x0008
    SACL_PRESENT = 0x0010
    SACL_DEFAULTED = 0x0020
    DACL_TRUSTED = 0x0040
    SERVER_SECURITY = 0x0080
    DACL_AUTO_INHERIT_REQUIRED = 0x0100
    SACL_AUTO_INHERIT_REQUIRED = 0x0200
    DACL_AUTO_INHERITED = 0x0400
    SACL_AUTO_INHERITED = 0x0800
    DACL_PROTECTED = 0x1000
    SACL_PROTECTED = 0x2000
    RM_CONTROL_VALID = 0x4000
    SELF_RELATIVE = 0x8000


@dataclass(frozen=True, slots=True)
class SecurityDescriptor:
    """SECURITY_DESCRIPTOR, self-relative ([MS-DTYP] 2.4.6).

    `control` says DACL_PRESENT while `dacl` is None: the NULL list, which lets everyone in. Encoding
    adds SELF_RELATIVE and the PRESENT bits of the lists that there are. `resource_manager` is the
    byte that counts if RM_CONTROL_VALID.
    """

    owner: Sid | None = None
    group: Sid | None = None
    dacl: Acl | None = None
    sacl: Acl | None = None
    control: int = SecurityDescriptorControl.SELF_RELATIVE
    resource_manager: int = 0

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BBHIIII")

    def encode(self) -> bytes:
        control = self.control | SecurityDescriptorControl.SELF_RELATIVE
        if self.dacl is not None:
            control |= SecurityDescriptorControl.DACL_PRESENT
        if self.sacl is not None:
            control |= SecurityDescriptorControl.SACL_PRESENT
        offsets: list[int] = []
        body = b""
        for part in (self.owner, self.group, self.sacl, self.dacl):
            offsets.append(self._LAYOUT.size + len(body) if part is not None else 0)
            encoded = part.encode() if part is not None else b""
            body += encoded + bytes(-len(encoded) % 4)
        return self._LAYOUT.pack(_REVISION, self.resource_manager, control, *offsets) + body

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "security descriptor"
        revision, rm, control, owner, group, sacl, dacl = unpack_checked(cls._LAYOUT, view, 0, what)
        if revision != _REVISION or not control & SecurityDescriptorControl.SELF_RELATIVE:
            raise RemoteProtocolError(f"{what} of revision {revision} with control {control:#06x}")
        has_dacl = control & SecurityDescriptorControl.DACL_PRESENT and dacl
        has_sacl = control & SecurityDescriptorControl.SACL_PRESENT and sacl
        return cls(
            Sid.decode_untrusted(cls._part(view, owner)) if owner else None,
            Sid.decode_untrusted(cls._part(view, group)) if group else None,
            Acl.decode_untrusted(cls._part(view, dacl)) if has_dacl else None,
            Acl.decode_untrusted(cls._part(view, sacl)) if has_sacl else None,
            control,
            rm,
        )

    @classmethod
    def _part(cls, view: memoryview, offset: int) -> memoryview:
        if offset < cls._LAYOUT.size:
            raise RemoteProtocolError(f"security descriptor with a part at {offset}, inside its header")
        return slice_checked(view, offset, len(view) - offset, "security descriptor")
