"""Mount options: every row of the table, what is refused, and that no text makes a traceback."""

from __future__ import annotations

import dataclasses
import os
import pwd
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbmount.failures import ExitCode, OptionError
from smbmount.optionparsers import VERSIONS, VersionRange
from smbmount.options import (
    OPTIONS,
    REFUSED,
    MountOptions,
    Option,
    help_lines,
    parse_options,
    split_options,
)
from smbmount.secret import Secret

OWN_NAME = pwd.getpwuid(os.getuid()).pw_name

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    (",,", {}),
    ("username=me", {"username": "me"}),
    ("user=DOM\\me", {"username": "DOM\\me"}),
    ("user=me%secret", {"username": "me", "password": Secret("secret")}),
    ("user=me%old,password=new", {"username": "me", "password": Secret("new")}),
    ("password=a\\,b=c d", {"password": Secret("a,b=c d")}),
    ("pass=", {"password": Secret("")}),
    ("domain=D", {"domain": "D"}),
    ("dom=D", {"domain": "D"}),
    ("workgroup=D", {"domain": "D"}),
    ("credentials=/a\\,b", {"credentials": "/a,b"}),
    ("cred=/x", {"credentials": "/x"}),
    ("guest", {"guest": True}),
    ("sec=ntlmssp", {}),
    ("sec=none", {"sec": "none"}),
    ("vers=2.0", {"vers": VersionRange(0x202, 0x202)}),
    ("vers=2.1", {"vers": VersionRange(0x210, 0x210)}),
    ("vers=3", {"vers": VersionRange(0x300, 0x311)}),
    ("vers=3.0", {"vers": VersionRange(0x300, 0x300)}),
    ("vers=3.0.2", {"vers": VersionRange(0x302, 0x302)}),
    ("vers=3.1.1", {"vers": VersionRange(0x311, 0x311)}),
    ("vers=default", {"vers": VERSIONS["default"]}),
    ("seal", {"seal": True, "vers": VersionRange(0x300, 0x311)}),
    ("seal,vers=3.1.1", {"seal": True, "vers": VersionRange(0x311, 0x311)}),
    ("sign", {"sign": True}),
    ("nosign", {"sign": False}),
    ("port=1445", {"port": 1445}),
    ("ip=192.0.2.1", {"ip": "192.0.2.1"}),
    ("addr=fe80::1", {"ip": "fe80::1"}),
    ("uid=1000,gid=100", {"uid": 1000, "gid": 100}),
    (f"uid={OWN_NAME}", {"uid": os.getuid()}),
    ("gid=root", {"gid": 0}),
    ("forceuid,forcegid", {}),
    ("file_mode=0644,dir-mode=750", {"file_mode": 0o644, "dir_mode": 0o750}),
    ("sec=krb5", {"sec": "krb5"}),
    ("sec=krb5i,keytab=/k", {"sec": "krb5i", "keytab": "/k"}),
    ("sec=krb5p", {"sec": "krb5p", "seal": True, "vers": VERSIONS["3"]}),
    ("sec=negotiate,cruid=root", {"sec": "negotiate", "cruid": 0}),
    ("symlinks=all", {"symlinks": "all"}),
    ("cache=strict", {}),
    ("cache=none", {"cache": "none"}),
    ("cache=loose", {"cache": "loose"}),
    ("closetimeo=5", {"closetimeo": 5.0}),
    ("prefetch=on", {}),
    ("prefetch=off", {"prefetch": False}),
    ("actimeo=2.5", {"actimeo": 2.5}),
    ("acregmax=3,acdirmax=4", {"acregmax": 3.0, "acdirmax": 4.0}),
    ("rsize=65536,wsize=1048576", {"rsize": 65536, "wsize": 1048576}),
    ("nomapposix", {"mapposix": False}),
    ("nomapposix,mapposix", {}),
    ("nobrl,soft", {}),
    ("nodfs", {"dfs": False}),
    ("dfs_hosts=fs2:10.0.0.1:[::1]:*.b.example", {"dfs_hosts": ("fs2", "10.0.0.1", "[::1]", "*.b.example")}),
    ("nomfsymlinks", {"mfsymlinks": False}),
    ("nomfsymlinks,mfsymlinks", {}),
    ("noserverino", {"serverino": False}),
    ("serverino", {}),
    ("timeout=7", {"timeout": 7.0}),
    ("hard", {"hard": True}),
    ("hard,soft", {}),
    ("echo-interval=10", {"echo_interval": 10.0}),
    ("max_credits=1", {"max_credits": 1}),
    ("max_channels=1", {}),
    ("prefixpath=a/b", {"prefixpath": "a/b"}),
    ("ro", {"read_only": True}),
    ("ro,rw", {}),
    ("rw,dev,suid", {}),
    ("nosuid,nodev,noexec", {"noexec": True}),
    ("noexec,exec", {}),
    ("allow_other", {"allow_other": True}),
    ("allow-root", {"allow_root": True}),
    ("insecure_dev,insecure_suid", {"insecure_dev": True, "insecure_suid": True}),
    ("nonempty,force", {"nonempty": True, "force": True}),
    ("sloppy,iocharset=utf8,whatever", {"sloppy": True}),
    ("auto,noauto,user,nouser,users,_netdev,nofail,defaults,async", {}),
    ("x-systemd.automount,x-gvfs-name=a,comment=b", {}),
    ("port=1,port=2", {"port": 2}),
]

REJECTED: list[tuple[str, str]] = [
    ("foo", "unknown option 'foo'"),
    ("foo=bar", "unknown option 'foo'"),
    ("ro,iocharset=utf8", "unknown option 'iocharset'"),
    ("guest=1", "'guest' takes no value"),
    ("port", "'port' needs a value: write port=NUMBER"),
    ("username=", "'username': needs a value"),
    ("port=0", "from 1 to 65535"),
    ("port=65536", "from 1 to 65535"),
    ("port=٣", "from 1 to 65535"),
    ("port=" + "9" * 5000, "from 1 to 65535"),
    ("rsize=4095", "bytes from 4096"),
    ("wsize=16777217", "to 16777216"),
    ("timeout=0", "from 1 to 3600"),
    ("timeout=nan", "number of seconds"),
    ("actimeo=-1", "number of seconds"),
    ("actimeo=1e3", "number of seconds"),
    ("max_credits=0", "from 1 to 60000"),
    ("file_mode=0888", "octal"),
    ("dir_mode=0o755", "octal"),
    ("uid=4294967295", "too large"),
    ("uid=no such user", "there is no user 'no such user'"),
    ("gid=no such group", "there is no group"),
    ("ip=server", "IPv4 or IPv6"),
    ("vers=1.0", "SMB1 is not safe"),
    ("vers=4", "must be one of default"),
    ("sec=ntlm", "must be one of ntlmssp, krb5, krb5i, krb5p, negotiate, none"),
    ("keytab=/k", "keytab belongs to Kerberos: add sec=krb5"),
    ("cruid=0,sec=ntlmssp", "cruid belongs to Kerberos: add sec=krb5"),
    ("sec=krb5,cruid=0,keytab=/k", "keytab and cruid are two ways to a ticket"),
    ("sec=krb5,password=x,keytab=/k", "keytab and password are two ways to a ticket"),
    ("sec=krb5,guest", "guest and sec=krb5 exclude each other"),
    ("sec=krb5i,nosign", "leave out nosign"),
    ("sec=krb5p,nosign", "leave out nosign"),
    ("sec=krb5p,vers=2.1", "seal needs SMB 3.0 or newer"),
    ("dfs_hosts=a:", "must be host names, addresses or"),
    ("dfs_hosts=a b", "must be host names, addresses or"),
    ("dfs_hosts=a*.b", "must be host names, addresses or"),
    ("symlinks=some", "must be one of contain, all, none"),
    ("max_channels=4", "4 is not supported yet: use max_channels=1"),
    ("multichannel", "'multichannel' is not supported"),
    ("snapshot=@GMT-2020.01.01-00.00.00", "'snapshot' is not supported"),
    ("mapchars", "use mapposix"),
    ("allow_other,allow_root", "exclude each other"),
    ("guest,sign", "sign needs an account"),
    ("sec=none,seal", "seal needs an account"),
    ("seal,vers=2.1", "use vers=3"),
    ("username=a\0b", "NUL"),
]


@pytest.mark.parametrize(("text", "changes"), ACCEPTED)
def test_an_accepted_text_changes_just_these_fields(text: str, changes: dict[str, Any]) -> None:
    assert parse_options(text) == dataclasses.replace(MountOptions(), **changes)


@pytest.mark.parametrize(("text", "phrase"), REJECTED)
def test_a_rejected_text_is_refused_with_its_sentence(text: str, phrase: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options(text)
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code is ExitCode.USAGE


def test_remount_fails_as_a_mount() -> None:
    with pytest.raises(OptionError, match="unmount and mount again") as caught:
        parse_options("remount")
    assert caught.value.code is ExitCode.MOUNT_FAILED


def test_several_texts_are_read_in_order() -> None:
    assert parse_options("port=1,ro", "port=2") == MountOptions(port=2, read_only=True)


def test_every_row_of_the_table_is_tried_above() -> None:
    tried = {option.key for text, _ in ACCEPTED for option in split_options(text)}
    assert {row.names[0] for row in OPTIONS} <= tried
    refused = {option.key for text, _ in REJECTED for option in split_options(text)} | {"remount"}
    assert {row.names[0] for row in REFUSED} <= refused


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(MountOptions)}
    assert {row.field for row in OPTIONS if row.field is not None} == fields


def test_no_name_is_in_the_table_twice() -> None:
    rows: list[tuple[str, ...]] = [row.names for row in OPTIONS] + [row.names for row in REFUSED]
    names = [name for row in rows for name in row]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.names[0])
def test_help_shows_each_option(row: Option) -> None:
    assert any(row.names[0] in line and row.help in line for line in help_lines())


def test_attribute_timeouts_fall_back_from_special_to_general() -> None:
    assert parse_options("").attribute_timeout_file == 1.0
    assert parse_options("actimeo=5").attribute_timeout_directory == 5.0
    both = parse_options("actimeo=5,acregmax=2")
    assert (both.attribute_timeout_file, both.attribute_timeout_directory) == (2.0, 5.0)
    assert parse_options("cache=none").attribute_timeout_file == 0.0
    assert parse_options("cache=none,actimeo=3").attribute_timeout_file == 3.0


@pytest.mark.parametrize("text", ["password=pa,ss,word", "user=me%pa,ss", "pass=x,y=z"])
def test_a_comma_in_a_password_never_shows_its_rest(text: str) -> None:
    with pytest.raises(OptionError, match="behind password=") as caught:
        parse_options(text)
    assert "ss" not in str(caught.value).replace("password", "").replace("pass", "")
    assert "'y'" not in str(caught.value)


def test_no_password_is_in_repr() -> None:
    options = parse_options("user=me%canary1")
    assert "canary1" not in repr(options)
    assert "canary2" not in repr(parse_options("password=canary2"))


def test_the_raw_pieces_join_to_the_text() -> None:
    text = "a=1,b=x\\,y,c"
    assert ",".join(option.raw for option in split_options(text)) == text


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from([name for row in OPTIONS for name in row.names]),
    st.sampled_from(["=", ",", "\\", "\\,", "%", "0", "1", "3.1.1", "strict", "x-", "-", "_", "sloppy,"]),
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text_gives_options_or_an_option_error(text: str) -> None:
    try:
        options = parse_options(text)
    except OptionError:
        return
    assert isinstance(options, MountOptions)
