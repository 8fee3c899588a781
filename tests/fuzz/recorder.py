"""Listens at the machine: every message both ways, in the clear, sorted by the target whose input it is."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar, Final

from engine import ntstatus
from engine.proto.events import Event
from engine.proto.inflight import Request, SessionState
from engine.proto.machine import Machine
from engine.proto.statistics import Statistics
from engine.wire import create_contexts, fscc, fscc_pipe, fscc_set, fscc_volume
from engine.wire.constants import Command, InfoType
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_volume import FsInformationClass
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.io import IoctlRequest, IoctlResponse, WriteRequest
from engine.wire.ioctl import FsctlCode
from engine.wire.negotiate import NegotiateRequest, NegotiateResponse
from engine.wire.notify import LeaseBreakAcknowledgement, OplockBreak
from engine.wire.primitives import Buffer
from engine.wire.query import (
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
    SetInfoRequest,
)
from engine.wire.session import SessionSetupResponse
from tests.fuzz.wire_targets import DIRECTORY_CLASSES

Keep = Callable[..., None]

_LONGEST: Final = 1024
_OF_ONE_KIND: Final = 10
"""Messages kept for a target: a few of each length are a few of each shape."""
_FRAMES: Final = 8
"""Of a connection's beginning: the way to the share."""
_SET_UP: Final = (4, 5)
"""Frames that it takes: NEGOTIATE, two of the log-on, TREE_CONNECT, and the validation of the first."""
_KEYED: Final = 3
"""The account of the target `client.connect` whose log-on takes whatever comes."""

_MODULES: Final = {
    Command.NEGOTIATE: ("negotiate", "Negotiate"),
    Command.SESSION_SETUP: ("session", "SessionSetup"),
    Command.LOGOFF: ("session", "Logoff"),
    Command.TREE_CONNECT: ("tree", "TreeConnect"),
    Command.TREE_DISCONNECT: ("tree", "TreeDisconnect"),
    Command.CREATE: ("create", "Create"),
    Command.CLOSE: ("create", "Close"),
    Command.FLUSH: ("io", "Flush"),
    Command.READ: ("io", "Read"),
    Command.WRITE: ("io", "Write"),
    Command.LOCK: ("io", "Lock"),
    Command.IOCTL: ("io", "Ioctl"),
    Command.CANCEL: ("io", "Cancel"),
    Command.ECHO: ("io", "Echo"),
    Command.QUERY_DIRECTORY: ("query", "QueryDirectory"),
    Command.CHANGE_NOTIFY: ("notify", "ChangeNotify"),
    Command.QUERY_INFO: ("query", "QueryInfo"),
    Command.SET_INFO: ("query", "SetInfo"),
}
_INPUTS: Final = {
    FsctlCode.VALIDATE_NEGOTIATE_INFO: "wire.ioctl.ValidateNegotiateInfoRequest",
    FsctlCode.SRV_COPYCHUNK: "wire.ioctl.CopyChunkRequest",
    FsctlCode.SRV_COPYCHUNK_WRITE: "wire.ioctl.CopyChunkRequest",
    FsctlCode.SET_SPARSE: "wire.fscc_control.SetSparseRequest",
    FsctlCode.SET_ZERO_DATA: "wire.fscc_control.SetZeroDataRequest",
    FsctlCode.QUERY_ALLOCATED_RANGES: "wire.fscc_control.decode_allocated_ranges",
    FsctlCode.DFS_GET_REFERRALS: "wire.dfs.DfsReferralRequest",
    FsctlCode.DFS_GET_REFERRALS_EX: "wire.dfs.DfsReferralRequestEx",
    FsctlCode.SET_REPARSE_POINT: "wire.reparse.decode_reparse",
}
_OUTPUTS: Final = {
    FsctlCode.VALIDATE_NEGOTIATE_INFO: "wire.ioctl.ValidateNegotiateInfoResponse",
    FsctlCode.SRV_COPYCHUNK: "wire.ioctl.CopyChunkResponse",
    FsctlCode.SRV_COPYCHUNK_WRITE: "wire.ioctl.CopyChunkResponse",
    FsctlCode.SRV_REQUEST_RESUME_KEY: "wire.ioctl.ResumeKeyResponse",
    FsctlCode.SRV_ENUMERATE_SNAPSHOTS: "wire.ioctl.SnapshotsResponse",
    FsctlCode.QUERY_NETWORK_INTERFACE_INFO: "wire.ioctl.decode_network_interfaces",
    FsctlCode.QUERY_ALLOCATED_RANGES: "wire.fscc_control.decode_allocated_ranges",
    FsctlCode.DFS_GET_REFERRALS: "wire.dfs.DfsReferralResponse",
    FsctlCode.GET_REPARSE_POINT: "wire.reparse.decode_reparse",
}
_LISTS: Final = {
    FileInformationClass.FileStreamInformation: "wire.fscc_stream.decode_streams",
    FileInformationClass.FileFullEaInformation: "wire.fscc_ea.decode_full_eas",
    FileInformationClass.FileQuotaInformation: "wire.fscc_quota.decode_quotas",
}

_INFORMATION: Final = (fscc, fscc_set, fscc_pipe, fscc_volume)
_ANSWERS: Final = {
    Command.CREATE: 0,
    Command.CLOSE: 1,
    Command.READ: 2,
    Command.WRITE: 3,
    Command.FLUSH: 4,
    Command.QUERY_INFO: 5,
    Command.SET_INFO: 6,
    Command.IOCTL: 7,
}
"""By the order of requests in the target `client.answers`."""
_GOING_ON: Final = (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_MORE_PROCESSING_REQUIRED)
_FAILED: Final = 0x80000000
_ANSWER_ALL_THE_SAME: Final = (*_GOING_ON, ntstatus.STATUS_BUFFER_OVERFLOW)
_ERROR_SIZE: Final = 9
"""StructureSize of an ERROR response; others that fail bring their own data."""


class Recording:
    """Inputs by target, no two of one shape alike, free of what this machine is called."""

    def __init__(self) -> None:
        self._kept: defaultdict[str, dict[tuple[int, bytes], bytes]] = defaultdict(dict)
        names = {socket.gethostname(), socket.gethostname().partition(".")[0], socket.getfqdn()}
        spellings = {form for name in names if name for form in (name, name.lower(), name.upper())}
        self._secrets = sorted(
            (form.encode(coding) for form in spellings for coding in ("utf-8", "utf-16-le")),
            key=len,
            reverse=True,
        )

    def keep(self, target: str, data: Buffer, *, longest: int = _LONGEST) -> None:
        """Remember an input, unless one of its length and first bytes is there.

        What stands behind a blank in the target's name only sorts its inputs into kinds.
        """
        clean = bytes(data)
        for secret in self._secrets:
            wide = b"\0" in secret
            clean = clean.replace(
                secret, ("x" * (len(secret) // 2)).encode("utf-16-le") if wide else b"x" * len(secret)
            )
        kept = self._kept[target]
        if 0 < len(clean) <= longest and len(kept) < _OF_ONE_KIND:
            kept.setdefault((len(clean), clean[64:68] or clean[12:20]), clean)

    def inputs(self) -> dict[str, list[bytes]]:
        """What there is by now, the shortest first."""
        found: defaultdict[str, list[bytes]] = defaultdict(list)
        for name, kept in sorted(self._kept.items()):
            target = name.partition(" ")[0]
            found[target] = sorted([*found[target], *kept.values()], key=lambda data: (len(data), data))
        return {target: kept for target, kept in found.items() if kept}


class ListeningMachine(Machine):
    """A machine that tells what passes through it: each reply, and the request that it answers."""

    recording: ClassVar[Recording]
    """Where, for all of them."""
    account: ClassVar[int] = 0
    """Who connects, as the target `client.connect` counts them."""

    def __init__(
        self, max_credits: int, allocate: Callable[[int], memoryview], statistics: Statistics
    ) -> None:
        super().__init__(max_credits, allocate, statistics)
        self._stream = b""
        self._frames = 0
        self._tokens = b""

    def receive(self, buffer: memoryview, length: int, now: float = 0.0) -> list[Event]:
        frame = bytes(buffer[:length])
        if frame[:4] == b"\xfeSMB":
            self.recording.keep("proto.frame", frame)
            self.recording.keep("wire.header.compound", frame, longest=2 * _LONGEST)
            if self._frames < _FRAMES:
                self._frames += 1
                self._stream += length.to_bytes(4, "big") + frame
                said = bytes((self.account, 0, 1 | 4 << 2))
                if self._frames in _SET_UP:
                    self.recording.keep(
                        f"client.connect {self.account}", said + self._stream, longest=4 * _LONGEST
                    )
                    keyed = bytes((_KEYED, 0, said[2] | 128))
                    if not self.account:
                        self.recording.keep(
                            "client.connect keyed", keyed + self._stream, longest=4 * _LONGEST
                        )
                self.recording.keep(
                    "client.transport", bytes((self._frames,)) + self._stream, longest=4 * _LONGEST
                )
        else:
            self.recording.keep("wire.transform.TransformHeader", frame, longest=2 * _LONGEST)
        return super().receive(buffer, length, now)

    def _receive_message(
        self, message: memoryview, sealed_by: SessionState | None, events: list[Event], now: float
    ) -> None:
        header = Header.decode_untrusted(message)
        slot = self.slots.get(header.message_id)
        keep = self.recording.keep
        keep("wire.header.Header", message[:64])
        if header.message_id == UNSOLICITED_MESSAGE_ID:
            keep("wire.notify.decode_break_notification", message)
        elif slot is not None and header.status != ntstatus.STATUS_PENDING:
            sent = Header(
                slot.request.COMMAND, message_id=slot.message_id, session_id=slot.session.session_id
            )
            _hear_request(keep, slot.request, sent.encode())
            _hear_reply(keep, slot.request, header, message)
            if header.command <= Command.SESSION_SETUP and header.status in _GOING_ON:
                token = _token(header.command, message)
                self._tokens += len(token).to_bytes(2, "little") + token
                keep("client.log_on", self._tokens)
        super()._receive_message(message, sealed_by, events, now)


def _token(command: int, message: memoryview) -> bytes:
    if command == Command.NEGOTIATE:
        return bytes(NegotiateResponse.decode_untrusted(message).security_buffer)
    return bytes(SessionSetupResponse.decode_untrusted(message).security_buffer)


def _hear_request(keep: Keep, request: Request, header: bytes) -> None:
    data = bytes(request.data) if isinstance(request, WriteRequest) else b""
    message = header + request.encode() + data
    if request.COMMAND in _MODULES:
        keep("wire.{}.{}Request".format(*_MODULES[request.COMMAND]), message)
    match request:
        case OplockBreak() | LeaseBreakAcknowledgement():
            keep("wire.notify.decode_break_acknowledgement", message)
        case CreateRequest(contexts=contexts):
            keep("wire.create_contexts.decode_request_contexts", create_contexts.encode_contexts(contexts))
            for context in contexts:
                keep(f"wire.create_contexts.{type(context).__name__}", context.encode())
        case NegotiateRequest(contexts=offered):
            for one in offered:
                keep(f"wire.negotiate.{type(one).__name__}", one.encode())
        case IoctlRequest(ctl_code=code, input=given) if code in _INPUTS:
            keep(_INPUTS[FsctlCode(code)], given)
        case SetInfoRequest(info_type=kind, file_info_class=number, buffer=buffer):
            _hear_information(keep, kind, number, memoryview(buffer))
        case QueryInfoRequest(input=names) if names:
            keep("wire.fscc_ea.decode_get_eas", names)


def _hear_reply(keep: Keep, request: Request, header: Header, message: memoryview) -> None:
    if request.COMMAND == Command.OPLOCK_BREAK:
        keep("wire.notify.decode_break_acknowledgement", message)
        return
    if header.status >= _FAILED and header.status not in _ANSWER_ALL_THE_SAME and message[64] == _ERROR_SIZE:
        keep("wire.error.ErrorResponse", message)
        return
    keep("wire.{}.{}Response".format(*_MODULES[request.COMMAND]), message)
    keep("client.answers", bytes((_ANSWERS.get(request.COMMAND, 0),)) + message)
    match request:
        case CreateRequest():
            keep("client.stat", message)
            keep("attributes", message)
            response = CreateResponse.decode_untrusted(message)
            contexts = create_contexts.encode_contexts(response.contexts)
            keep("wire.create_contexts.decode_response_contexts", contexts)
            for context in response.contexts:
                keep(f"wire.create_contexts.{type(context).__name__}", context.encode())
            keep("proto.grant", b"\3" + message[64:])
        case NegotiateRequest():
            keep("proto.negotiation", b"\0\4" + message)
            for chosen in NegotiateResponse.decode_untrusted(message).contexts:
                keep(f"wire.negotiate.{type(chosen).__name__}", chosen.encode())
        case QueryDirectoryRequest(file_information_class=number) if number in DIRECTORY_CLASSES:
            buffer = QueryDirectoryResponse.decode_untrusted(message).buffer
            index = DIRECTORY_CLASSES.index(FileInformationClass(number))
            keep("wire.fscc_directory", bytes((index,)) + buffer, longest=2 * _LONGEST)
            keep("wire.fscc_chain", b"\x0c" + buffer)
            if number == FileInformationClass.FileIdBothDirectoryInformation:
                keep("client.listing", message, longest=2 * _LONGEST)
        case QueryInfoRequest(info_type=kind, file_info_class=number):
            buffer = QueryInfoResponse.decode_untrusted(message).buffer
            _hear_information(keep, kind, number, memoryview(buffer))
            if (kind, number) == (InfoType.FILE, FileInformationClass.FileAllInformation):
                keep("client.stat_all", message)
        case IoctlRequest(ctl_code=code) if code in _OUTPUTS:
            keep(_OUTPUTS[FsctlCode(code)], IoctlResponse.decode_untrusted(message).output)


def _hear_information(keep: Keep, kind: int, number: int, buffer: memoryview) -> None:
    if kind == InfoType.SECURITY:
        keep("wire.security.SecurityDescriptor", buffer)
    elif kind == InfoType.FILE and number in _LISTS:
        keep(_LISTS[FileInformationClass(number)], buffer)
        keep("client.extended_attributes", buffer)
    else:
        name = (FsInformationClass if kind == InfoType.FILESYSTEM else FileInformationClass)(number).name
        for module in (module for module in _INFORMATION if hasattr(module, name)):
            keep(f"{module.__name__.removeprefix('engine.')}.{name}", buffer)
