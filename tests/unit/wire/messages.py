"""Every message of the wire core with a strategy that makes it: the round-trip, truncation and mutation
tests run over this one list."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from engine.wire import create_contexts as cc
from engine.wire import negotiate as neg
from engine.wire.constants import Dialect
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest, CreateResponse
from engine.wire.error import ErrorContext, ErrorResponse, SymbolicLinkErrorResponse
from engine.wire.header import Header
from engine.wire.io import (
    CancelRequest,
    EchoRequest,
    EchoResponse,
    FlushRequest,
    FlushResponse,
    IoctlRequest,
    IoctlResponse,
    LockElement,
    LockRequest,
    LockResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.notify import (
    ChangeNotifyRequest,
    ChangeNotifyResponse,
    FileNotifyInformation,
    LeaseBreakAcknowledgement,
    LeaseBreakNotification,
    OplockBreak,
    decode_break_acknowledgement_untrusted,
    decode_break_notification_untrusted,
)
from engine.wire.primitives import FileId
from engine.wire.query import (
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
    SetInfoRequest,
    SetInfoResponse,
)
from engine.wire.session import LogoffRequest, LogoffResponse, SessionSetupRequest, SessionSetupResponse
from engine.wire.transform import TransformHeader
from engine.wire.tree import (
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectRequest,
    TreeDisconnectResponse,
)

HEADER: Final = Header(0).encode()

u4: Final = st.integers(0, 0xF)
u8: Final = st.integers(0, 0xFF)
u16: Final = st.integers(0, 0xFFFF)
u32: Final = st.integers(0, 0xFFFFFFFF)
u64: Final = st.integers(0, 0xFFFFFFFFFFFFFFFF)
guids: Final = st.uuids()
keys: Final = st.binary(min_size=16, max_size=16)
blobs: Final = st.binary(max_size=40)
file_ids: Final = st.builds(FileId, u64, u64)
u16_tuples: Final = st.lists(u16, max_size=5).map(tuple)


def _text_from_units(units: list[int]) -> str:
    return struct.pack(f"<{len(units)}H", *units).decode("utf-16-le", "surrogatepass")


names: Final = st.lists(u16, max_size=12).map(_text_from_units)
"""Text as UTF-16 has it: NUL, lone surrogates and all."""

sids: Final = st.integers(0, 15).flatmap(
    lambda count: st.binary(min_size=6 + 4 * count, max_size=6 + 4 * count).map(
        lambda rest: bytes((1, count)) + rest
    )
)

negotiate_contexts: Final[SearchStrategy[neg.NegotiateContext]] = st.one_of(
    st.builds(neg.PreauthIntegrityCapabilities, u16_tuples, blobs),
    st.builds(neg.EncryptionCapabilities, u16_tuples),
    st.builds(neg.CompressionCapabilities, u16_tuples, u32),
    st.builds(neg.NetnameNegotiateContextId, names),
    st.builds(neg.TransportCapabilities, u32),
    st.builds(neg.RdmaTransformCapabilities, u16_tuples),
    st.builds(neg.SigningCapabilities, u16_tuples),
    st.builds(neg.RawNegotiateContext, st.integers(0x100, 0xFFFF), blobs),
)

_raw_names: Final = st.one_of(st.sampled_from([b"UNKN", bytes.fromhex("9ccbcf9e04c1e643980e158da1f6ec83")]))
_leases: Final[SearchStrategy[cc.CreateContext]] = st.one_of(
    st.builds(cc.Lease, keys, u32, u32), st.builds(cc.LeaseV2, keys, u32, u32, keys, u16)
)

request_contexts: Final[SearchStrategy[cc.CreateContext]] = st.one_of(
    st.builds(cc.RawCreateContext, _raw_names, blobs),
    st.builds(cc.EaBuffer, blobs),
    st.builds(cc.SecurityDescriptorBuffer, blobs),
    st.builds(cc.DurableHandleRequest),
    st.builds(cc.DurableHandleReconnect, file_ids),
    st.builds(cc.AllocationSize, u64),
    st.builds(cc.QueryMaximalAccessRequest, st.none() | u64),
    st.builds(cc.TimewarpToken, u64),
    st.builds(cc.QueryOnDiskIdRequest),
    _leases,
    st.builds(cc.DurableHandleRequestV2, guids, u32, u32),
    st.builds(cc.DurableHandleReconnectV2, file_ids, guids, u32),
    st.builds(cc.AppInstanceId, guids),
    st.builds(cc.AppInstanceVersion, u64, u64),
    st.builds(cc.PosixRequest, u32),
)

response_contexts: Final[SearchStrategy[cc.CreateContext]] = st.one_of(
    st.builds(cc.RawCreateContext, _raw_names, blobs),
    st.builds(cc.DurableHandleResponse),
    st.builds(cc.QueryMaximalAccessResponse, u32, u32),
    st.builds(cc.QueryOnDiskIdResponse, u64, u64),
    _leases,
    st.builds(cc.DurableHandleResponseV2, u32, u32),
    st.builds(cc.PosixResponse, u32, u32, u32, sids, sids),
)

_no_311: Final = st.lists(u16.filter(lambda d: d != Dialect.SMB_3_1_1), max_size=5).map(tuple)
_with_311: Final = _no_311.map(lambda dialects: (*dialects, Dialect.SMB_3_1_1))
_negotiate_context_tuples: Final = st.lists(negotiate_contexts, max_size=4).map(tuple)


def _negotiate_requests() -> SearchStrategy[neg.NegotiateRequest]:
    common = {"security_mode": u16, "capabilities": u32, "client_guid": guids}
    return st.one_of(
        st.builds(neg.NegotiateRequest, dialects=_no_311, **common),
        st.builds(neg.NegotiateRequest, dialects=_with_311, contexts=_negotiate_context_tuples, **common),
    )


def _negotiate_responses() -> SearchStrategy[neg.NegotiateResponse]:
    common = {
        "security_mode": u16,
        "server_guid": guids,
        "capabilities": u32,
        "max_transact_size": u32,
        "max_read_size": u32,
        "max_write_size": u32,
        "system_time": u64,
        "server_start_time": u64,
        "security_buffer": blobs,
    }
    return st.one_of(
        st.builds(neg.NegotiateResponse, dialect_revision=st.just(0x0210), **common),
        st.builds(
            neg.NegotiateResponse,
            dialect_revision=st.just(0x0311),
            contexts=_negotiate_context_tuples,
            **common,
        ),
    )


def _create_responses() -> SearchStrategy[CreateResponse]:
    return st.builds(
        CreateResponse,
        oplock_level=u8,
        flags=u8,
        create_action=u32,
        creation_time=u64,
        last_access_time=u64,
        last_write_time=u64,
        change_time=u64,
        allocation_size=u64,
        end_of_file=u64,
        file_attributes=u32,
        file_id=file_ids,
        contexts=st.lists(response_contexts, max_size=4).map(tuple),
    )


def _create_requests() -> SearchStrategy[CreateRequest]:
    return st.builds(
        CreateRequest,
        requested_oplock_level=u8,
        impersonation_level=u32,
        desired_access=u32,
        file_attributes=u32,
        share_access=u32,
        create_disposition=u32,
        create_options=u32,
        name=names,
        contexts=st.lists(request_contexts, max_size=4).map(tuple),
    )


class Encodable(Protocol):
    """What all messages have in common."""

    def encode(self) -> bytes:
        """Return the bytes."""


@dataclass(frozen=True)
class Case:
    """A decoder, and values with the bytes that it must make them from."""

    name: str
    decode: Callable[[memoryview], object]
    examples: SearchStrategy[tuple[object, bytes]]

    def __str__(self) -> str:
        return self.name


def encode_message(message: Encodable) -> bytes:
    """Return the message behind an empty header."""
    data = message.data if isinstance(message, WriteRequest) else b""
    return b"".join((HEADER, message.encode(), data))


def _message(
    decode: Callable[[memoryview], object], values: SearchStrategy[Encodable], name: str = ""
) -> Case:
    owner = getattr(decode, "__self__", None)
    label = name or (owner.__name__ if isinstance(owner, type) else str(decode))
    return Case(label, decode, values.map(lambda value: (value, encode_message(value))))


def _bare(name: str, decode: Callable[[memoryview], object], values: SearchStrategy[Encodable]) -> Case:
    return Case(name, decode, values.map(lambda value: (value, value.encode())))


_oplock_breaks: Final = st.builds(OplockBreak, file_ids, u8)
_lease_breaks: Final = st.builds(LeaseBreakNotification, keys, u32, u32, u32, u16)
_lease_acknowledgements: Final = st.builds(LeaseBreakAcknowledgement, keys, u32)
_changes: Final = st.lists(st.builds(FileNotifyInformation, u32, names), max_size=4).map(tuple)
_locks: Final = st.lists(st.builds(LockElement, u64, u64, u32), max_size=4).map(tuple)
_error_contexts: Final = st.lists(st.builds(ErrorContext, blobs, u32), max_size=3).map(tuple)
_headers: Final = st.one_of(
    st.builds(
        Header, u16, u32, u16, u16, st.just(0x8), u32, u64, tree_id=u32, session_id=u64, signature=keys
    ),
    st.builds(
        Header, u16, u32, u16, u16, st.just(0x3), u32, u64, async_id=u64, session_id=u64, signature=keys
    ),
)


def message_from_hex(body: str) -> memoryview:
    """Return a message: an empty header and the body that a test wrote down field by field."""
    return memoryview(HEADER + bytes.fromhex(body))


CASES: Final = [
    _bare("Header", Header.decode_untrusted, _headers),
    _bare(
        "TransformHeader",
        TransformHeader.decode_untrusted,
        st.builds(TransformHeader, keys, keys, u32, u64),
    ),
    _bare(
        "SymbolicLinkErrorResponse",
        SymbolicLinkErrorResponse.decode_untrusted,
        st.builds(SymbolicLinkErrorResponse, names, names, u16, u32),
    ),
    _message(neg.NegotiateRequest.decode_untrusted, _negotiate_requests()),
    _message(neg.NegotiateResponse.decode_untrusted, _negotiate_responses()),
    _message(
        SessionSetupRequest.decode_untrusted,
        st.builds(
            SessionSetupRequest,
            flags=u8,
            security_mode=u8,
            capabilities=u32,
            previous_session_id=u64,
            security_buffer=blobs,
        ),
    ),
    _message(SessionSetupResponse.decode_untrusted, st.builds(SessionSetupResponse, u16, blobs)),
    _message(LogoffRequest.decode_untrusted, st.builds(LogoffRequest)),
    _message(LogoffResponse.decode_untrusted, st.builds(LogoffResponse)),
    _message(TreeConnectRequest.decode_untrusted, st.builds(TreeConnectRequest, names, st.integers(0, 3))),
    _message(TreeConnectResponse.decode_untrusted, st.builds(TreeConnectResponse, u8, u32, u32, u32)),
    _message(TreeDisconnectRequest.decode_untrusted, st.builds(TreeDisconnectRequest)),
    _message(TreeDisconnectResponse.decode_untrusted, st.builds(TreeDisconnectResponse)),
    _message(CreateRequest.decode_untrusted, _create_requests()),
    _message(CreateResponse.decode_untrusted, _create_responses()),
    _message(CloseRequest.decode_untrusted, st.builds(CloseRequest, file_ids, u16)),
    _message(
        CloseResponse.decode_untrusted,
        st.builds(
            CloseResponse,
            flags=u16,
            creation_time=u64,
            last_access_time=u64,
            last_write_time=u64,
            change_time=u64,
            allocation_size=u64,
            end_of_file=u64,
            file_attributes=u32,
        ),
    ),
    _message(FlushRequest.decode_untrusted, st.builds(FlushRequest, file_ids)),
    _message(FlushResponse.decode_untrusted, st.builds(FlushResponse)),
    _message(
        ReadRequest.decode_untrusted,
        st.builds(
            ReadRequest,
            file_id=file_ids,
            offset=u64,
            length=u32,
            minimum_count=u32,
            remaining_bytes=u32,
            flags=u8,
        ),
    ),
    _message(ReadResponse.decode_untrusted, st.builds(ReadResponse, blobs, u32, u32)),
    _message(
        WriteRequest.decode_untrusted,
        st.builds(WriteRequest, file_id=file_ids, offset=u64, data=blobs, remaining_bytes=u32, flags=u32),
    ),
    _message(WriteResponse.decode_untrusted, st.builds(WriteResponse, u32)),
    _message(LockRequest.decode_untrusted, st.builds(LockRequest, file_ids, _locks, u4, st.integers(0, 64))),
    _message(LockResponse.decode_untrusted, st.builds(LockResponse)),
    _message(
        IoctlRequest.decode_untrusted,
        st.builds(
            IoctlRequest,
            ctl_code=u32,
            file_id=file_ids,
            input=blobs,
            max_input_response=u32,
            max_output_response=u32,
            flags=u32,
        ),
    ),
    _message(
        IoctlResponse.decode_untrusted,
        st.builds(IoctlResponse, ctl_code=u32, file_id=file_ids, input=blobs, output=blobs, flags=u32),
    ),
    _message(CancelRequest.decode_untrusted, st.builds(CancelRequest)),
    _message(EchoRequest.decode_untrusted, st.builds(EchoRequest)),
    _message(EchoResponse.decode_untrusted, st.builds(EchoResponse)),
    _message(
        QueryDirectoryRequest.decode_untrusted,
        st.builds(
            QueryDirectoryRequest,
            file_information_class=u8,
            flags=u8,
            file_index=u32,
            file_id=file_ids,
            output_buffer_length=u32,
            pattern=names,
        ),
    ),
    _message(QueryDirectoryResponse.decode_untrusted, st.builds(QueryDirectoryResponse, blobs)),
    _message(
        ChangeNotifyRequest.decode_untrusted,
        st.builds(
            ChangeNotifyRequest, file_id=file_ids, completion_filter=u32, output_buffer_length=u32, flags=u16
        ),
    ),
    _message(ChangeNotifyResponse.decode_untrusted, st.builds(ChangeNotifyResponse, _changes)),
    _message(
        QueryInfoRequest.decode_untrusted,
        st.builds(
            QueryInfoRequest,
            info_type=u8,
            file_info_class=u8,
            output_buffer_length=u32,
            additional_information=u32,
            flags=u32,
            file_id=file_ids,
            input=blobs,
        ),
    ),
    _message(QueryInfoResponse.decode_untrusted, st.builds(QueryInfoResponse, blobs)),
    _message(
        SetInfoRequest.decode_untrusted,
        st.builds(
            SetInfoRequest,
            info_type=u8,
            file_info_class=u8,
            buffer=blobs,
            additional_information=u32,
            file_id=file_ids,
        ),
    ),
    _message(SetInfoResponse.decode_untrusted, st.builds(SetInfoResponse)),
    _message(
        decode_break_notification_untrusted, st.one_of(_oplock_breaks, _lease_breaks), "break notification"
    ),
    _message(
        decode_break_acknowledgement_untrusted,
        st.one_of(_oplock_breaks, _lease_acknowledgements),
        "break acknowledgement",
    ),
    _message(
        ErrorResponse.decode_untrusted,
        st.one_of(st.builds(ErrorResponse, blobs), st.builds(ErrorResponse, contexts=_error_contexts)),
    ),
]
