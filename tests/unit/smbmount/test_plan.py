"""What the options become for the engine, the file system and FUSE."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import AuthKind, parse_unc
from smbmount.credentials import Login
from smbmount.failures import ExitCode, MountFailure
from smbmount.options import parse_options
from smbmount.plan import (
    Plan,
    check_may_share,
    connect_config,
    credentials,
    filesystem_config,
    fuse_options,
    read_prefix,
    read_source,
)
from smbmount.secret import Secret
from smbmount.vfs.config import FileSystemConfig


def make_plan(options: str = "", source: str = "//srv/share", kind: str = "ntlm") -> Plan:
    chosen = parse_options(options)
    login = Login("me", Secret("canary"), "", "guest" if kind == "guest" else "ntlm")
    return Plan(source, parse_unc(source), "", "/mnt/x", chosen, login)


def test_a_source_is_shown_with_slashes() -> None:
    source, unc = read_source("\\\\srv\\share\\a")
    assert source == "//srv/share/a"
    assert (unc.server, unc.share, unc.prefix) == ("srv", "share", "a")


@pytest.mark.parametrize(
    "text", ["", "srv:/share", "//srv", "//srv/", "///share", "//srv:x/share", "//::1/share"]
)
def test_what_is_no_share_is_a_usage_error(text: str) -> None:
    with pytest.raises(MountFailure) as caught:
        read_source(text)
    assert caught.value.code is ExitCode.USAGE


def test_two_ports_are_refused_and_one_is_taken() -> None:
    with pytest.raises(MountFailure, match="two ports"):
        read_source("//srv:1445/share", 2445)
    assert read_source("//srv:1445/share", 1445)[1].port == 1445
    assert connect_config(make_plan(source="//srv:1445/share")).port == 1445
    assert connect_config(make_plan("port=2445")).port == 2445
    assert connect_config(make_plan()).port == 445


@pytest.mark.parametrize(
    ("source", "options", "prefix"),
    [
        ("//s/x", "", ""),
        ("//s/x/a/b", "", "a\\b"),
        ("//s/x/a", "prefixpath=/c//./d/", "c\\d"),
        ("//s/x", "prefixpath=c\\d", "c\\d"),
        ("//s/x", "prefixpath=a:b", "a\uf022b"),
    ],
)
def test_the_folder_of_the_share(source: str, options: str, prefix: str) -> None:
    assert read_prefix(parse_unc(source), parse_options(options)) == prefix


@pytest.mark.parametrize(
    "options", ["prefixpath=a/../b", "prefixpath=a:b,nomapposix", f"prefixpath={'a' * 300}"]
)
def test_a_folder_that_cannot_be_is_a_usage_error(options: str) -> None:
    with pytest.raises(MountFailure, match="cannot have a folder") as caught:
        read_prefix(parse_unc("//s/x"), parse_options(options))
    assert caught.value.code is ExitCode.USAGE


def test_a_guest_cannot_be_asked_for_signatures() -> None:
    plan = make_plan("guest", kind="guest")
    assert connect_config(plan).signing is False
    assert credentials(plan.login).kind is AuthKind.GUEST
    assert connect_config(make_plan()).signing is True
    assert connect_config(make_plan("nosign")).signing is False


def test_the_file_system_is_told_what_the_options_say() -> None:
    options = (
        "uid=5,gid=6,file_mode=0640,dir_mode=0750,acregmax=2,acdirmax=3,nomapposix,nomfsymlinks,symlinks=all,"
        "noserverino,ro,cache=none,prefetch=off,rsize=8192,wsize=4096"
    )
    assert filesystem_config(make_plan(options)) == FileSystemConfig(
        uid=5,
        gid=6,
        file_mode=0o640,
        dir_mode=0o750,
        attribute_timeout_file=2.0,
        attribute_timeout_directory=3.0,
        map_names=False,
        mfsymlinks=False,
        symlinks="all",
        server_inode_numbers=False,
        read_only=True,
        cache="none",
        prefetch=False,
        max_read=8192,
        max_write=4096,
    )
    assert filesystem_config(make_plan()).uid == os.getuid()
    assert filesystem_config(make_plan()).gid == os.getgid()


BASE = {"fsname=//srv/share", "subtype=smbmount", "nosuid", "nodev", "rw"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", BASE),
        ("rw,dev,suid,exec", BASE),
        ("ro,noexec", (BASE - {"rw"}) | {"ro", "noexec"}),
        ("allow_other", BASE | {"allow_other", "default_permissions"}),
        ("allow_root", BASE | {"allow_root", "default_permissions"}),
        ("insecure_suid,insecure_dev", (BASE - {"nosuid", "nodev"}) | {"suid", "dev"}),
    ],
)
def test_what_fuse_is_told(options: str, expected: set[str]) -> None:
    assert fuse_options(make_plan(options)) == expected


def test_a_source_in_any_script_reaches_libfuse_escaped() -> None:
    plan = make_plan(source="//srv/Größe, 写真")
    fsname = next(option for option in fuse_options(plan) if option.startswith("fsname="))
    assert fsname.encode("us-ascii") == "fsname=//srv/Größe\\, 写真".encode()


def test_only_root_lets_others_in_unless_fuse_conf_says_so(tmp_path: Path) -> None:
    config = tmp_path / "fuse.conf"
    config.write_text("#user_allow_other\n")
    with pytest.raises(MountFailure, match="user_allow_other"):
        check_may_share(parse_options("allow_other"), 1000, str(config))
    config.write_text(" user_allow_other # for all\n")
    check_may_share(parse_options("allow_other"), 1000, str(config))
    check_may_share(parse_options(""), 1000, str(tmp_path / "missing"))
    check_may_share(parse_options("allow_other"), 0, str(tmp_path / "missing"))
