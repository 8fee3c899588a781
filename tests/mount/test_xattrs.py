"""Extended attributes `user.*` on SMB's extended attributes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.samba import SambaServer, ShareConfig

pytestmark = pytest.mark.deadline(60)


@pytest.fixture
def file(here: Path) -> Path:
    """A file without attributes."""
    path = here / "file"
    path.write_text("content")
    return path


def values(path: Path) -> dict[str, bytes]:
    """All attributes, in upper case as servers may change the case of their names."""
    return {name.upper(): os.getxattr(path, name) for name in os.listxattr(path)}


def test_set_get_list_and_remove(file: Path, there: Path) -> None:
    assert os.listxattr(file) == []
    os.setxattr(file, "user.colour", b"blue")
    os.setxattr(file, "user.bytes", bytes(range(256)))
    assert values(file) == {"USER.COLOUR": b"blue", "USER.BYTES": bytes(range(256))}
    on_server = {name.upper(): os.getxattr(there / "file", name) for name in os.listxattr(there / "file")}
    assert on_server["USER.COLOUR"].rstrip(b"\0") == b"blue"
    os.removexattr(file, "user.colour")
    assert values(file) == {"USER.BYTES": bytes(range(256))}
    assert error_of(lambda: os.getxattr(file, "user.colour")) == errno.ENODATA
    assert error_of(lambda: os.removexattr(file, "user.colour")) == errno.ENODATA


def test_create_and_replace(file: Path) -> None:
    assert error_of(lambda: os.setxattr(file, "user.a", b"1", os.XATTR_REPLACE)) == errno.ENODATA
    os.setxattr(file, "user.a", b"1", os.XATTR_CREATE)
    assert error_of(lambda: os.setxattr(file, "user.a", b"2", os.XATTR_CREATE)) == errno.EEXIST
    os.setxattr(file, "user.a", b"3", os.XATTR_REPLACE)
    os.setxattr(file, "user.a", b"longer than before")
    assert os.getxattr(file, "user.a") == b"longer than before"


def test_attributes_of_folders(here: Path) -> None:
    os.setxattr(here, "user.kind", b"folder")
    assert values(here) == {"USER.KIND": b"folder"}
    os.removexattr(here, "user.kind")
    assert values(here) == {}


@pytest.mark.parametrize(
    "name", ["security.selinux", "trusted.x", "system.posix_acl_access", "system.x", "security.capability"]
)
def test_other_namespaces_are_not_supported(file: Path, name: str) -> None:
    assert error_of(lambda: os.getxattr(file, name)) == errno.ENOTSUP
    # The kernel looks at the values of some names itself, and finds this one malformed.
    assert error_of(lambda: os.setxattr(file, name, b"x")) in {errno.ENOTSUP, errno.EINVAL}
    assert values(file) == {}


@pytest.mark.parametrize("size", [1, 255, 256, 3000])
def test_sizes_of_values(file: Path, size: int) -> None:
    content = os.urandom(size - 1) + b"x"
    os.setxattr(file, "user.value", content)
    assert os.getxattr(file, "user.value") == content


def test_value_that_is_too_large(file: Path) -> None:
    """65,535 bytes are SMB's limit; the server's own file system may allow less."""
    error = error_of(lambda: os.setxattr(file, "user.huge", b"x" * 65_536))
    assert error in {errno.E2BIG, errno.ENOSPC, errno.ERANGE}
    error = error_of(lambda: os.setxattr(file, "user.large", b"x" * 60_000))
    assert error in {0, errno.ENOSPC, errno.E2BIG}
    assert set(values(file)) == (set() if error else {"USER.LARGE"})


def test_empty_value_is_refused(file: Path) -> None:
    """SMB takes an empty value for a removal; cp and rsync forgive this error."""
    os.setxattr(file, "user.a", b"kept")
    for name in ("user.a", "user.b"):
        assert error_of(partial(os.setxattr, file, name, b"")) == errno.ENOTSUP
    assert values(file) == {"USER.A": b"kept"}


def test_names(file: Path) -> None:
    longest = "user." + "n" * 200
    os.setxattr(file, longest, b"long")
    assert os.getxattr(file, longest) == b"long"
    assert error_of(lambda: os.setxattr(file, "user.", b"x")) == errno.EINVAL
    assert error_of(lambda: os.setxattr(file, "user.ümlaut", b"x")) == errno.EINVAL


def test_case_of_names_is_ignored_as_the_server_does(file: Path) -> None:
    os.setxattr(file, "user.Mixed", b"1")
    assert os.getxattr(file, "user.mixed") == b"1"
    os.setxattr(file, "user.MIXED", b"2")
    assert list(values(file).values()) == [b"2"]


def test_many_attributes_list_in_a_stable_order(file: Path) -> None:
    expected = {f"USER.NUMBER-{number:02}": b"%d" % (number + 1) for number in range(30)}
    for name, value in expected.items():
        os.setxattr(file, name.lower(), value)
    assert values(file) == expected
    assert os.listxattr(file) == os.listxattr(file)


def test_attributes_of_what_is_gone(here: Path) -> None:
    missing = here / "missing"
    assert error_of(lambda: os.getxattr(missing, "user.a")) == errno.ENOENT
    assert error_of(lambda: os.setxattr(missing, "user.a", b"x")) == errno.ENOENT
    assert error_of(lambda: os.listxattr(missing)) == errno.ENOENT


def test_attributes_made_on_the_server(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "file").touch()
    os.setxattr(share_path / "file", "user.theirs", b"value\0")
    samba.adopt(share_path)
    here = mount_factory(samba, folder=share_path.name).path
    assert values(here / "file")["USER.THEIRS"].rstrip(b"\0") == b"value"


def test_attributes_survive_rename_and_remount(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=share_path.name)
    (mount.path / "a").touch()
    os.setxattr(mount.path / "a", "user.tag", b"kept")
    (mount.path / "a").rename(mount.path / "b")
    mount.unmount()
    mount.start()
    assert values(mount.path / "b") == {"USER.TAG": b"kept"}


def test_cp_keeps_attributes(file: Path, here: Path, tmp_path: Path) -> None:
    os.setxattr(file, "user.tag", b"kept")
    for target in (here / "copy", tmp_path / "copy"):
        subprocess.run(["cp", "-a", file, target], check=True, timeout=30, capture_output=True)
        assert values(target) == {"USER.TAG": b"kept"}
    shutil.copy2(tmp_path / "copy", here / "back")
    assert values(here / "back") == {"USER.TAG": b"kept"}


def test_attributes_of_an_unlinked_open_file(file: Path) -> None:
    os.setxattr(file, "user.tag", b"kept")
    with file.open("rb") as opened:
        file.unlink()
        error = error_of(lambda: os.getxattr(opened.fileno(), "user.tag"))
    assert error in {0, errno.ENOENT, errno.ESTALE}, "any answer but EIO"


def test_share_without_extended_attributes(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory({"data": ShareConfig(options={"ea support": "no"})})
    here = mount_factory(server).path
    (here / "file").write_text("content")
    assert error_of(lambda: os.setxattr(here / "file", "user.a", b"x")) == errno.ENOTSUP
    assert error_of(lambda: os.getxattr(here / "file", "user.a")) in {errno.ENODATA, errno.ENOTSUP}
    assert os.listxattr(here / "file") == []
    assert (here / "file").read_text() == "content"
