"""Names of shares, credentials, settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine
from engine import Unc, parse_unc


@pytest.mark.parametrize(
    ("text", "unc"),
    [
        ("//srv/data", Unc("srv", None, "data", "")),
        (r"\\srv\data", Unc("srv", None, "data", "")),
        ("//srv:4450/data", Unc("srv", 4450, "data", "")),
        ("//srv:/data", Unc("srv", None, "data", "")),
        ("//srv/data/", Unc("srv", None, "data", "")),
        ("//srv/data/a/b", Unc("srv", None, "data", r"a\b")),
        (r"//srv/data\a//b/./c/", Unc("srv", None, "data", r"a\b\c")),
        ("//10.0.0.1/data", Unc("10.0.0.1", None, "data", "")),
        ("//[::1]/data", Unc("::1", None, "data", "")),
        ("//[fe80::1%eth0]:445/data", Unc("fe80::1%eth0", 445, "data", "")),
        ("//srv/C$", Unc("srv", None, "C$", "")),
        ("//srv/with space/and ünïcode", Unc("srv", None, "with space", "and ünïcode")),
    ],
)
def test_a_share_is_named_like_this(text: str, unc: Unc) -> None:
    assert parse_unc(text) == unc


@pytest.mark.parametrize(
    ("credentials", "what"),
    [
        (("a\udcff", "p", "d"), "user name"),
        (("a", "canary\ud800", "d"), "password"),
        (("a", "p", "\udfff"), "domain"),
    ],
)
def test_an_account_has_to_be_unicode(credentials: tuple[str, str, str], what: str) -> None:
    with pytest.raises(ValueError, match=f"the {what} has lone surrogates") as caught:
        engine.Credentials(*credentials)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no share"),
        ("srv/data", "is no share"),
        ("/srv/data", "is no share"),
        ("smb://srv/data", "is no share"),
        ("//", "names no server"),
        ("///data", "names no server"),
        ("//:445/data", "names no server"),
        ("//[]/data", "names no server"),
        ("//srv", "names no share"),
        ("//srv/", "names no share"),
        ("//srv/./", "names no share"),
        ("//srv/data/../other", "has '..' in it"),
        ("//srv/..", "has '..' in it"),
        ("//srv/da\0ta", "NUL"),
        ("//::1/data", "in brackets"),
        ("//[::1/data", "closing bracket"),
        ("//[::1]x/data", "closing bracket"),
        ("//srv:0/data", "no TCP port"),
        ("//srv:65536/data", "no TCP port"),
        ("//srv:x/data", "no TCP port"),
        ("//srv:٣/data", "no TCP port"),
        ("//srv:-1/data", "no TCP port"),
        ("//[::1]:99999/data", "no TCP port"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_in_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_unc(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_share_or_a_value_error(text: str) -> None:
    try:
        unc = parse_unc("//" + text)
    except ValueError:
        return
    assert unc.server
    assert unc.share
    assert not set("/\\\0") & set(unc.server + unc.share)
    assert unc.port is None or 0 < unc.port < 65536
    assert all(part not in ("", ".", "..") for part in unc.prefix.split("\\") if unc.prefix)


_CHARACTERS = st.characters(blacklist_characters="/\\\0:[]")
_PART = st.text(_CHARACTERS, min_size=1).filter(lambda text: text not in (".", ".."))


@given(_PART, st.none() | st.integers(1, 65535), _PART, st.lists(_PART, max_size=3))
def test_what_was_put_together_comes_apart_again(
    server: str, port: int | None, share: str, folders: list[str]
) -> None:
    host = server if port is None else f"{server}:{port}"
    unc = parse_unc("/".join(["", "", host, share, *folders]))
    assert unc == Unc(server, port, share, "\\".join(folders))


def test_a_share_shows_as_it_is_written() -> None:
    unc = Unc("srv", 4450, "data", "a")
    assert str(unc) == "//srv/data/a"
    assert unc.tree_path == r"\\srv\data"


def test_a_password_does_not_show() -> None:
    credentials = engine.Credentials("me", "canary-7", "DOM")
    assert "me" in repr(credentials)
    for text in (repr(credentials), str(credentials), f"{credentials}", repr([credentials])):
        assert "canary-7" not in text


def test_the_dialects_have_to_be_in_order() -> None:
    with pytest.raises(ValueError, match="lowest dialect"):
        engine.ConnectConfig(min_dialect=engine.Dialect.SMB_3_1_1, max_dialect=engine.Dialect.SMB_2_1)
