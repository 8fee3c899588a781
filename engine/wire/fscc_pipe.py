"""Named pipes: their information classes and the one control that has a structure ([MS-FSCC])."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from engine.wire.fscc import FileInformationClass
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked


@dataclass(slots=True)
class FilePipeInformation:
    """A named pipe's read mode (0 bytes, 1 messages) and completion mode ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FilePipeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<II")

    read_mode: int = 0
    completion_mode: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.read_mode, self.completion_mode)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FilePipeInformation"))


@dataclass(slots=True)
class FilePipeLocalInformation:
    """The near end of a named pipe ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FilePipeLocalInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<10I")

    named_pipe_type: int
    named_pipe_configuration: int
    maximum_instances: int
    current_instances: int
    inbound_quota: int
    read_data_available: int
    outbound_quota: int
    write_quota_available: int
    named_pipe_state: int
    named_pipe_end: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.named_pipe_type,
            self.named_pipe_configuration,
            self.maximum_instances,
            self.current_instances,
            self.inbound_quota,
            self.read_data_available,
            self.outbound_quota,
            self.write_quota_available,
            self.named_pipe_state,
            self.named_pipe_end,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FilePipeLocalInformation"))


@dataclass(slots=True)
class PipeWaitRequest:
    """FSCTL_PIPE_WAIT: wait for a free instance of the pipe `name` ([MS-FSCC] 2.3).

    `timeout` is in units of 100 ns, negative as relative times are; None leaves it to the server.
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qI?x")

    name: str
    timeout: int | None = None

    def encode(self) -> bytes:
        name = encode_utf16(self.name)
        return self._LAYOUT.pack(self.timeout or 0, len(name), self.timeout is not None) + name

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FSCTL_PIPE_WAIT"
        timeout, length, is_specified = unpack_checked(cls._LAYOUT, view, 0, what)
        name = decode_utf16_untrusted(slice_checked(view, cls._LAYOUT.size, length, what))
        return cls(name, timeout if is_specified else None)
