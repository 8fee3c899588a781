"""The targets of `smbmount`: what users, files and other programs give it, and names from the server."""

from __future__ import annotations

import os
from typing import Final

from engine.client.stat import stat_from_create
from engine.wire.create import CreateResponse
from smbmount.control import BadRequest, CopyRequest, StatusRequest, parse_request_untrusted
from smbmount.credentials import parse_credentials
from smbmount.ctl import CtlError, progress_text_untrusted, read_reply_untrusted, status_text_untrusted
from smbmount.dfs import dfs_lines_untrusted
from smbmount.failures import CredentialsError, OptionError
from smbmount.mounttable import parse_mountinfo
from smbmount.operations import entry_from
from smbmount.options import parse_options
from smbmount.statustext import status_lines_untrusted
from smbmount.vfs import names, symlinks
from smbmount.vfs.attributes import (
    DIRECTORY,
    FILE,
    Attributes,
    blocks_of,
    may_be_symlink,
    mode_of,
    settable,
    shown_ns,
    size_of,
)
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.errors import PosixError
from tests.fuzz.target import Script, Target, covering

_MAPS: Final = (names.NameMap(map_reserved=True), names.NameMap(map_reserved=False))


def _options(data: bytes) -> None:
    options = parse_options(*(os.fsdecode(text) for text in data.split(b"\0", 2)))
    assert not (options.seal and options.vers.lowest < 0x0300)
    assert "***" in repr(options) or options.password is None


def _credentials(data: bytes) -> None:
    found = parse_credentials(data, "file")
    texts = [found.username, found.domain, found.password.reveal() if found.password else None]
    assert all("\0" not in text and "\n" not in text for text in texts if text is not None)


def _control(data: bytes) -> None:
    request = parse_request_untrusted(data)
    if isinstance(request, CopyRequest):
        assert all(b"/" not in part and b"\0" not in part for part in (*request.source, *request.target))
    else:
        assert request == StatusRequest()


def _reply(data: bytes) -> None:
    """Whoever's daemon it is: what it says is shown on the terminal of whoever asks."""
    script = Script(data)
    reply = read_reply_untrusted(data[1:])
    shown = progress_text_untrusted(reply) + status_text_untrusted(reply, as_json=bool(script.below(2)))
    assert all(character == "\n" or character.isprintable() for character in shown)


def _symlink(data: bytes) -> None:
    """The bytes as they are, and as the target of a link."""
    target = symlinks.decode_untrusted(data)
    if target is not None:
        assert 0 < len(target) <= symlinks.MAX_TARGET
        assert b"\0" not in target
    symlinks.is_contained(data, 3)
    if 0 < len(data) <= symlinks.MAX_TARGET and b"\0" not in data:
        assert symlinks.decode_untrusted(symlinks.encode(data)) == data


def _contained(data: bytes) -> None:
    """A target that stays inside a tree of plain folders does so by Python's own reckoning too."""
    depth = Script(data).below(4)
    target = data[1:]
    folder = b"/".join([b"", b"mount", *[b"d"] * depth])
    if b"\0" not in target and symlinks.is_contained(target, depth):
        reached = os.path.normpath(os.path.join(folder, target))
        assert reached == b"/mount" or reached.startswith(b"/mount/")


def _name_from_server(data: bytes) -> None:
    """What is shown leads nowhere else, and comes back as the name that it is on the server."""
    text = data[: len(data) & ~1].decode("utf-16-le", "surrogatepass")
    for name_map in _MAPS:
        name = name_map.decode_untrusted(text)
        if name is not None:
            assert name not in (b"", b".", b"..")
            assert b"/" not in name
            assert b"\0" not in name
            assert len(name) <= names.MAX_NAME_BYTES
            assert name_map.encode(name) == text


def _name_from_kernel(data: bytes) -> None:
    for name_map in _MAPS:
        try:
            text = name_map.encode(data)
        except PosixError:
            continue
        assert name_map.decode_untrusted(text) == data


def _attributes(data: bytes) -> None:
    """What the kernel gets holds, whatever the server's numbers are."""
    stat = stat_from_create(CreateResponse.decode_untrusted(memoryview(data)), 1)
    config = FileSystemConfig()
    for kind in (FILE, DIRECTORY):
        shown = Attributes(
            1,
            mode_of(kind, stat.attributes, config),
            1,
            config.uid,
            config.gid,
            size_of(kind, stat, None),
            blocks_of(stat),
            shown_ns(stat.access_ns),
            shown_ns(stat.write_ns),
            shown_ns(stat.change_ns),
            1.0,
            1.0,
        )
        assert entry_from(shown).st_size >= 0
    settable(stat.attributes)
    may_be_symlink(stat)


def _steps(data: bytes) -> None:
    """What a daemon says of its referrals."""
    dfs_lines_untrusted(read_reply_untrusted(data).get("dfs"))


def _mounts(data: bytes) -> None:
    list(parse_mountinfo(data))


_CTL: Final = covering(
    read_reply_untrusted, progress_text_untrusted, status_text_untrusted, status_lines_untrusted
)

SMBMOUNT_TARGETS: Final = (
    Target("options", _options, (OptionError,)),
    Target("credentials", _credentials, (CredentialsError,)),
    Target("control", _control, (BadRequest,), covering(parse_request_untrusted)),
    Target("ctl", _reply, (CtlError,), _CTL),
    Target("ctl_dfs", _steps, (CtlError, ValueError), covering(dfs_lines_untrusted)),
    Target("mounttable", _mounts, ()),
    Target("attributes", _attributes),
    Target("vfs.symlinks", _symlink, (), covering(symlinks.decode_untrusted)),
    Target("vfs.contained", _contained, ()),
    Target("vfs.names", _name_from_server, (), covering(_MAPS[0].decode_untrusted)),
    Target("vfs.names_encoded", _name_from_kernel, ()),
)
