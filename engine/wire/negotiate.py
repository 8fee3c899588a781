"""NEGOTIATE and its contexts ([MS-SMB2] 2.2.3 and 2.2.4)."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, Self

from engine.errors import LocalProtocolError
from engine.wire.constants import Command, Dialect, NegotiateContextType
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    Buffer,
    align8,
    decode_utf16_untrusted,
    encode_utf16,
    pad8,
    read_guid,
    slice_checked,
    slice_payload,
    unpack_body,
    unpack_checked,
)

_REQUEST: Final = struct.Struct("<HHHHI16sIHH")
_REQUEST_INTEGERS: Final = struct.Struct("<HHHHI16xIHH")
_REQUEST_GUID_OFFSET: Final = SMB2_HEADER_SIZE + 12
_RESPONSE: Final = struct.Struct("<HHHH16sIIIIQQHHI")
_RESPONSE_INTEGERS: Final = struct.Struct("<HHHH16xIIIIQQHHI")
_RESPONSE_GUID_OFFSET: Final = SMB2_HEADER_SIZE + 8
_CONTEXT: Final = struct.Struct("<HHI")
_TWO_COUNTS: Final = struct.Struct("<HH")
_COUNT: Final = struct.Struct("<H")
_COUNT_AND_FLAGS: Final = struct.Struct("<HHI")
_FLAGS: Final = struct.Struct("<I")


class NegotiateContext(Protocol):
    """One entry of a NEGOTIATE_CONTEXT list ([MS-SMB2] 2.2.3.1)."""

    @property
    def context_type(self) -> int:
        """A `NegotiateContextType`, or a number unknown to us."""

    def encode(self) -> bytes:
        """Return the context's data, without its header."""


@dataclass(slots=True)
class PreauthIntegrityCapabilities:
    """[MS-SMB2] 2.2.3.1.1."""

    context_type: ClassVar[int] = NegotiateContextType.PREAUTH_INTEGRITY_CAPABILITIES
    hash_algorithms: Sequence[int]
    salt: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        counts = _TWO_COUNTS.pack(len(self.hash_algorithms), len(self.salt))
        return counts + _pack_ids(self.hash_algorithms) + self.salt

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        count, salt_length = unpack_checked(_TWO_COUNTS, data, 0, "preauthentication context")
        algorithms = _unpack_ids(data, _TWO_COUNTS.size, count)
        salt = slice_checked(data, _TWO_COUNTS.size + 2 * count, salt_length, "preauthentication salt")
        return cls(algorithms, bytes(salt))


@dataclass(slots=True)
class EncryptionCapabilities:
    """[MS-SMB2] 2.2.3.1.2: the numbers of the ciphers, the best first."""

    context_type: ClassVar[int] = NegotiateContextType.ENCRYPTION_CAPABILITIES
    ciphers: Sequence[int]

    def encode(self) -> bytes:
        """Return the context's data."""
        return _COUNT.pack(len(self.ciphers)) + _pack_ids(self.ciphers)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (count,) = unpack_checked(_COUNT, data, 0, "encryption context")
        return cls(_unpack_ids(data, _COUNT.size, count))


@dataclass(slots=True)
class CompressionCapabilities:
    """[MS-SMB2] 2.2.3.1.3."""

    context_type: ClassVar[int] = NegotiateContextType.COMPRESSION_CAPABILITIES
    compression_algorithms: Sequence[int]
    flags: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        head = _COUNT_AND_FLAGS.pack(len(self.compression_algorithms), 0, self.flags)
        return head + _pack_ids(self.compression_algorithms)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        count, _, flags = unpack_checked(_COUNT_AND_FLAGS, data, 0, "compression context")
        return cls(_unpack_ids(data, _COUNT_AND_FLAGS.size, count), flags)


@dataclass(slots=True)
class NetnameNegotiateContextId:
    """[MS-SMB2] 2.2.3.1.4: the server's name as the client knows it."""

    context_type: ClassVar[int] = NegotiateContextType.NETNAME_NEGOTIATE_CONTEXT_ID
    net_name: str

    def encode(self) -> bytes:
        """Return the context's data."""
        return encode_utf16(self.net_name)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        return cls(decode_utf16_untrusted(data))


@dataclass(slots=True)
class TransportCapabilities:
    """[MS-SMB2] 2.2.3.1.5."""

    context_type: ClassVar[int] = NegotiateContextType.TRANSPORT_CAPABILITIES
    flags: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _FLAGS.pack(self.flags)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (flags,) = unpack_checked(_FLAGS, data, 0, "transport context")
        return cls(flags)


@dataclass(slots=True)
class RdmaTransformCapabilities:
    """[MS-SMB2] 2.2.3.1.6."""

    context_type: ClassVar[int] = NegotiateContextType.RDMA_TRANSFORM_CAPABILITIES
    rdma_transform_ids: Sequence[int]

    def encode(self) -> bytes:
        """Return the context's data."""
        return _COUNT_AND_FLAGS.pack(len(self.rdma_transform_ids), 0, 0) + _pack_ids(self.rdma_transform_ids)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        count, _, _ = unpack_checked(_COUNT_AND_FLAGS, data, 0, "RDMA transform context")
        return cls(_unpack_ids(data, _COUNT_AND_FLAGS.size, count))


@dataclass(slots=True)
class SigningCapabilities:
    """[MS-SMB2] 2.2.3.1.7: the numbers of the signing algorithms, the best first."""

    context_type: ClassVar[int] = NegotiateContextType.SIGNING_CAPABILITIES
    signing_algorithms: Sequence[int]

    def encode(self) -> bytes:
        """Return the context's data."""
        return _COUNT.pack(len(self.signing_algorithms)) + _pack_ids(self.signing_algorithms)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (count,) = unpack_checked(_COUNT, data, 0, "signing context")
        return cls(_unpack_ids(data, _COUNT.size, count))


@dataclass(slots=True)
class RawNegotiateContext:
    """A context whose type has no class here: its bytes as they came."""

    context_type: int
    data: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        return self.data


_DECODERS: Final[dict[int, Callable[[memoryview], NegotiateContext]]] = {
    PreauthIntegrityCapabilities.context_type: PreauthIntegrityCapabilities.decode_untrusted,
    EncryptionCapabilities.context_type: EncryptionCapabilities.decode_untrusted,
    CompressionCapabilities.context_type: CompressionCapabilities.decode_untrusted,
    NetnameNegotiateContextId.context_type: NetnameNegotiateContextId.decode_untrusted,
    TransportCapabilities.context_type: TransportCapabilities.decode_untrusted,
    RdmaTransformCapabilities.context_type: RdmaTransformCapabilities.decode_untrusted,
    SigningCapabilities.context_type: SigningCapabilities.decode_untrusted,
}


@dataclass(slots=True, kw_only=True)
class NegotiateRequest:
    """[MS-SMB2] 2.2.3. The contexts travel only if `dialects` holds 3.1.1."""

    COMMAND: ClassVar[Command] = Command.NEGOTIATE
    dialects: Sequence[int]
    security_mode: int
    capabilities: int
    client_guid: uuid.UUID
    contexts: Sequence[NegotiateContext] = ()

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if there are contexts but no dialect 3.1.1."""
        if self.contexts and Dialect.SMB_3_1_1 not in self.dialects:
            raise LocalProtocolError("NEGOTIATE request: contexts without the dialect 3.1.1")
        dialects = _pack_ids(self.dialects)
        contexts_offset = align8(SMB2_HEADER_SIZE + _REQUEST.size + len(dialects)) if self.contexts else 0
        fixed = _REQUEST.pack(
            36,
            len(self.dialects),
            self.security_mode,
            0,
            self.capabilities,
            self.client_guid.bytes_le,
            contexts_offset,
            len(self.contexts),
            0,
        )
        if not self.contexts:
            return fixed + dialects
        return pad8(fixed + dialects) + _encode_contexts(self.contexts)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        fields = unpack_body(_REQUEST_INTEGERS, message, 36, "NEGOTIATE request")
        _, dialect_count, security_mode, _, capabilities, offset, context_count, _ = fields
        dialects_offset = SMB2_HEADER_SIZE + _REQUEST.size
        dialects = _unpack_ids(message, dialects_offset, dialect_count)
        contexts: tuple[NegotiateContext, ...] = ()
        if Dialect.SMB_3_1_1 in dialects:
            minimum = dialects_offset + 2 * dialect_count
            contexts = _decode_contexts(message, offset, context_count, minimum)
        return cls(
            dialects=dialects,
            security_mode=security_mode,
            capabilities=capabilities,
            client_guid=read_guid(message, _REQUEST_GUID_OFFSET),
            contexts=contexts,
        )


@dataclass(slots=True, kw_only=True)
class NegotiateResponse:
    """[MS-SMB2] 2.2.4. The contexts travel only with the dialect 3.1.1; repeated ones are all kept."""

    COMMAND: ClassVar[Command] = Command.NEGOTIATE
    security_mode: int
    dialect_revision: int
    server_guid: uuid.UUID
    capabilities: int
    max_transact_size: int
    max_read_size: int
    max_write_size: int
    system_time: int = 0
    server_start_time: int = 0
    security_buffer: Buffer = b""
    contexts: Sequence[NegotiateContext] = ()

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if there are contexts but the dialect is not 3.1.1."""
        if self.contexts and self.dialect_revision != Dialect.SMB_3_1_1:
            raise LocalProtocolError("NEGOTIATE response: contexts without the dialect 3.1.1")
        buffer_offset = SMB2_HEADER_SIZE + _RESPONSE.size
        fixed = _RESPONSE.pack(
            65,
            self.security_mode,
            self.dialect_revision,
            len(self.contexts),
            self.server_guid.bytes_le,
            self.capabilities,
            self.max_transact_size,
            self.max_read_size,
            self.max_write_size,
            self.system_time,
            self.server_start_time,
            buffer_offset,
            len(self.security_buffer),
            align8(buffer_offset + len(self.security_buffer)) if self.contexts else 0,
        )
        if not self.contexts:
            return fixed + self.security_buffer
        return pad8(fixed + self.security_buffer) + _encode_contexts(self.contexts)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            security_mode,
            dialect_revision,
            context_count,
            capabilities,
            max_transact_size,
            max_read_size,
            max_write_size,
            system_time,
            server_start_time,
            buffer_offset,
            buffer_length,
            contexts_offset,
        ) = unpack_body(_RESPONSE_INTEGERS, message, 65, "NEGOTIATE response")
        minimum = SMB2_HEADER_SIZE + _RESPONSE.size
        security_buffer = slice_payload(message, buffer_offset, buffer_length, minimum, "NEGOTIATE response")
        contexts: tuple[NegotiateContext, ...] = ()
        if dialect_revision == Dialect.SMB_3_1_1:
            contexts = _decode_contexts(message, contexts_offset, context_count, minimum)
        return cls(
            security_mode=security_mode,
            dialect_revision=dialect_revision,
            server_guid=read_guid(message, _RESPONSE_GUID_OFFSET),
            capabilities=capabilities,
            max_transact_size=max_transact_size,
            max_read_size=max_read_size,
            max_write_size=max_write_size,
            system_time=system_time,
            server_start_time=server_start_time,
            security_buffer=security_buffer,
            contexts=contexts,
        )


def _pack_ids(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}H", *ids)


def _unpack_ids(view: memoryview, offset: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}H", slice_checked(view, offset, 2 * count, "NEGOTIATE list of numbers"))


def _encode_contexts(contexts: Sequence[NegotiateContext]) -> bytes:
    encoded = bytearray()
    for context in contexts:
        encoded.extend(bytes(align8(len(encoded)) - len(encoded)))
        data = context.encode()
        encoded += _CONTEXT.pack(context.context_type, len(data), 0)
        encoded += data
    return bytes(encoded)


def _decode_contexts(
    message: memoryview, offset: int, count: int, minimum: int
) -> tuple[NegotiateContext, ...]:
    contexts: list[NegotiateContext] = []
    if count:
        slice_payload(message, offset, _CONTEXT.size, minimum, "NEGOTIATE contexts")
    for _ in range(count):
        context_type, length, _ = unpack_checked(_CONTEXT, message, offset, "NEGOTIATE context")
        data = slice_checked(message, offset + _CONTEXT.size, length, "NEGOTIATE context")
        decoder = _DECODERS.get(context_type)
        contexts.append(decoder(data) if decoder else RawNegotiateContext(context_type, bytes(data)))
        offset = align8(offset + _CONTEXT.size + length)
    return tuple(contexts)
