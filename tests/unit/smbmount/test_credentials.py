"""Who logs on: the credentials file, the variables, the order among them, and that nothing leaks."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbmount.credentials import (
    HANDED_OVER,
    HANDED_OVER_OF_USER,
    FileCredentials,
    Login,
    Tickets,
    parse_credentials,
    read_credentials,
    resolve_login,
    split_domain,
)
from smbmount.failures import CredentialsError, ExitCode, MountFailure
from smbmount.options import parse_options
from smbmount.secret import Secret


def private(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    return path


def resolve(text: str, environ: Mapping[str, str] | None = None, answer: str | None = None) -> Login:
    ask = None if answer is None else lambda prompt: f"{answer}"
    return resolve_login(parse_options(text), environ or {}, ask, "me")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", FileCredentials()),
        (b"username=u\npassword=p\ndomain=d\n", FileCredentials("u", Secret("p"), "d")),
        (b" \tUSERNAME=u\n  Password= p =q#,\\ \nDOMAIN=d", FileCredentials("u", Secret(" p =q#,\\ "), "d")),
        (b"user=u\r\npass=p\r\ndom=d\r\n", FileCredentials("u", Secret("p"), "d")),
        (b"# who\n\n \nusername=u\n", FileCredentials("u")),
        (b"\xef\xbb\xbfusername=\xc3\xbc\n", FileCredentials("ü")),
        (b"password=\n", FileCredentials(None, Secret(""))),
        (b"username=a\nusername=b\n", FileCredentials("b")),
        (b"password=a%b\n", FileCredentials(None, Secret("a%b"))),
    ],
)
def test_a_credentials_file_is_read_as_mount_cifs_does(content: bytes, expected: FileCredentials) -> None:
    assert parse_credentials(content, "x") == expected


@pytest.mark.parametrize("line", [b"canary", b"canary=canary", b"passwort=canary", b"password=canary\0"])
def test_a_wrong_line_is_named_by_number_and_never_quoted(line: bytes) -> None:
    with pytest.raises(CredentialsError, match=r"line 2 of credentials file /c\.cred is wrong") as caught:
        parse_credentials(b"username=me\n" + line, "/c.cred")
    assert "canary" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(CredentialsError, match="not UTF-8") as caught:
        parse_credentials(b"password=canary\xff", "/c.cred")
    assert "canary" not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_give_credentials_or_a_credentials_error(content: bytes) -> None:
    try:
        found = parse_credentials(content, "x")
    except CredentialsError:
        return
    assert isinstance(found, FileCredentials)


def test_a_file_open_to_others_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "c", "password=canary\n")
    for mode in (0o640, 0o604, 0o660, 0o602):
        file.chmod(mode)
        with pytest.raises(CredentialsError, match="chmod 600") as caught:
            read_credentials(str(file))
        assert "canary" not in str(caught.value)
    file.chmod(stat.S_IRUSR)
    assert read_credentials(str(file)).password == Secret("canary")


@pytest.mark.parametrize("name", ["missing", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialsError, match="cannot read credentials file"):
        read_credentials(f"{tmp_path}/{name}")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="larger than"):
        read_credentials(str(private(tmp_path / "c", "#" * 70_000)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("me", (None, "me")),
        ("DOM\\me", ("DOM", "me")),
        ("DOM/me", ("DOM", "me")),
        ("me@example.org", (None, "me@example.org")),
        ("A\\b\\c", ("A", "b\\c")),
    ],
)
def test_domains_in_user_names(name: str, expected: tuple[str | None, str]) -> None:
    assert split_domain(name) == expected


def test_options_outrank_the_file_and_the_file_outranks_variables(tmp_path: Path) -> None:
    file = private(tmp_path / "c", "username=DOM\\fileuser\npassword=filepass\n")
    environ = {"USER": "envuser%userpass", "PASSWD": "envpass", HANDED_OVER_OF_USER: "999"}
    login = resolve(f"credentials={file}", environ)
    assert login == Login("fileuser", Secret("filepass"), "DOM", "ntlm")
    login = resolve(f"credentials={file},user=o,password=p,domain=E", environ)
    assert login == Login("o", Secret("p"), "E", "ntlm")


def test_variables_in_their_order(tmp_path: Path) -> None:
    word = private(tmp_path / "w", "from file\nsecond line\n")
    environ = {"USER": "u%from user", "PASSWD_FILE": str(word)}
    assert resolve("", environ) == Login("u", Secret("from file"), "", "ntlm")
    assert resolve("", {"USER": "u%from user"}).password == Secret("from user")
    reader, writer = os.pipe()
    os.write(writer, b"from fd\n")
    os.close(writer)
    environ["PASSWD_FD"] = str(reader)
    assert resolve("", environ).password == Secret("from fd")
    environ["PASSWD"] = "from variable"
    assert resolve("", environ).password == Secret("from variable")


def test_a_password_that_was_handed_over_outranks_all_and_is_read_whole(tmp_path: Path) -> None:
    file = private(tmp_path / "c", "password=filepass\n")
    reader, writer = os.pipe()
    os.write(writer, b"a\nb")
    os.close(writer)
    login = resolve(f"credentials={file}", {HANDED_OVER: str(reader), "PASSWD": "p"})
    assert login.password == Secret("a\nb")
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(reader)


@pytest.mark.parametrize("number", ["", "x", "-1", "9999999", "1" * 5000])
def test_a_descriptor_that_is_none_is_a_sentence(number: str) -> None:
    with pytest.raises(CredentialsError, match="PASSWD_FD"):
        resolve("", {"PASSWD_FD": number})


def test_the_password_file_of_the_variable_is_checked_too(tmp_path: Path) -> None:
    file = private(tmp_path / "w", "canary")
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        resolve("", {"PASSWD_FILE": str(file)})


def test_the_prompt_comes_last_and_names_the_user() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    login = resolve_login(parse_options("user=D/u"), {}, ask, "me")
    assert login == Login("u", Secret("typed"), "D", "ntlm")
    assert asked == ["Password of u: "]
    assert resolve("", {"PASSWD": "given"}, "typed").password == Secret("given")


def test_without_a_terminal_a_missing_password_is_an_error() -> None:
    with pytest.raises(CredentialsError, match="no password for 'me', and no terminal") as caught:
        resolve("")
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (EOFError(), "no password was given for 'me': type it at the prompt, or use credentials=FILE"),
        (UnicodeDecodeError("utf-8", b"canary\xff", 6, 7, "no"), "the password is not UTF-8"),
    ],
)
def test_a_prompt_that_brings_no_password_is_a_sentence(error: Exception, phrase: str) -> None:
    def ask(prompt: str) -> str:
        raise error

    with pytest.raises(CredentialsError, match=phrase) as caught:
        resolve_login(parse_options(""), {}, ask, "me")
    assert caught.value.code is ExitCode.USAGE
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "answer", "what"),
    [
        ("user=m\udcff,password=p", {}, None, "option 'user' is not UTF-8"),
        ("username=me%canary\udcff", {}, None, "option 'username' is not UTF-8"),
        ("user=me,password=canary\udcff", {}, None, "option 'password' is not UTF-8"),
        ("user=me,password=p,dom=D\udcff", {}, None, "option 'dom' is not UTF-8"),
        ("", {"USER": "m\udcff%canary"}, None, "the user name is not UTF-8"),
        ("", {"USER": "D\udcff/me%canary"}, None, "the domain is not UTF-8"),
        ("", {"USER": "me%canary\udcff"}, None, "the password is not UTF-8"),
        ("", {"PASSWD": "canary\udcff"}, None, "the password is not UTF-8"),
        ("user=me", {}, "canary\udcff", "the password is not UTF-8"),
    ],
)
def test_an_account_that_is_not_utf8_is_refused_as_usage(
    text: str, environ: Mapping[str, str], answer: str | None, what: str
) -> None:
    with pytest.raises(MountFailure) as caught:
        resolve(text, environ, answer)
    assert what in str(caught.value).replace("': ", "' ")
    assert caught.value.code is ExitCode.USAGE
    assert "canary" not in str(caught.value)


def test_guest_and_anonymous_need_nothing() -> None:
    assert resolve("guest", {"USER": "envuser"}) == Login("", Secret(""), "", "guest")
    assert resolve("guest,user=D\\u") == Login("u", Secret(""), "D", "guest")
    assert resolve("sec=none,user=u,password=p") == Login("", Secret(""), "", "anonymous")


def test_the_account_is_named_for_messages() -> None:
    assert str(resolve("user=u,password=p,domain=D")) == "D\\u"
    assert str(resolve("user=u,password=p")) == "u"
    assert str(resolve("guest")) == "guest"


def test_no_password_is_in_repr_str_or_formatting() -> None:
    login = resolve("user=u,password=canary")
    file = FileCredentials(None, Secret("canary"))
    for text in (repr(login), str(login), f"{login.password}", repr(file), repr(login.password)):
        assert "canary" not in text
    with pytest.raises(TypeError):
        login.password.__reduce__()


# Kerberos


def test_a_ticket_needs_neither_name_nor_password() -> None:
    login = resolve("sec=krb5", {"USER": "me", "KRB5CCNAME": "FILE:/tmp/mine"})
    assert login == Login("", Secret(""), "", "kerberos", tickets=Tickets("FILE:/tmp/mine"))
    assert str(login) == "kerberos"
    assert resolve("sec=negotiate").kind == "negotiate"
    assert resolve("sec=krb5,username=EX\\alice") == Login("alice", Secret(""), "EX", "kerberos")


def test_a_password_gets_a_ticket(tmp_path: Path) -> None:
    file = private(tmp_path / "cred", "username=alice\npassword=p\npassword2=q\ndomain=example.test\n")
    login = resolve(f"sec=krb5,credentials={file}")
    assert login == Login("alice", Secret("p"), "example.test", "kerberos", Secret("q"))
    assert resolve("sec=krb5", {"PASSWD": "p"}) == Login("me", Secret("p"), "", "kerberos")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("", ""),
        ("/tmp/c", "FILE:/tmp/c"),
        ("c", "FILE:{}/c"),
        ("FILE:c", "FILE:{}/c"),
        ("DIR:c", "DIR:{}/c"),
        ("DIR::/tmp/c/tkt", "DIR::/tmp/c/tkt"),
        ("KEYRING:persistent:0", "KEYRING:persistent:0"),
    ],
)
def test_a_cache_is_found_in_any_working_directory(given: str, used: str) -> None:
    assert resolve("sec=krb5", {"KRB5CCNAME": given}).tickets.cache == used.format(os.getcwd())


def test_a_keytab_is_refused_if_others_can_read_it(tmp_path: Path) -> None:
    keytab = private(tmp_path / "keytab", "")
    assert resolve(f"sec=krb5,keytab=FILE:{keytab}").tickets.keytab == str(keytab)
    keytab.chmod(0o640)
    with pytest.raises(CredentialsError, match=f"keytab {keytab} is open to its group or to others"):
        resolve(f"sec=krb5,keytab={keytab}")
    with pytest.raises(CredentialsError, match="cannot read keytab"):
        resolve(f"sec=krb5,keytab={tmp_path}/none")


def test_only_root_uses_the_tickets_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert resolve("sec=krb5,cruid=1000").tickets.owner == 1000
    with pytest.raises(CredentialsError, match="cruid and a password"):
        resolve("sec=krb5,cruid=1000", {"PASSWD": "p"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert resolve("sec=krb5,cruid=1000").tickets.owner == 1000
    with pytest.raises(CredentialsError, match="only root"):
        resolve("sec=krb5,cruid=0")
