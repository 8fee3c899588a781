"""Who logs on, and with what password: options, credentials file, variables, and a prompt at last.

The first of these that has the password gives it: password= or username=NAME%PASSWORD, the credentials
file, PASSWD, PASSWD_FD, PASSWD_FILE, the PASSWORD of USER=NAME%PASSWORD, the prompt.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from smbmount.failures import CredentialsError
from smbmount.optionparsers import is_utf8
from smbmount.options import MountOptions
from smbmount.secret import Secret

HANDED_OVER: Final = "SMBMOUNT_PASSWORD_FD"
HANDED_OVER_OF_USER: Final = "SMBMOUNT_USER_PASSWORD_FD"
"""How a password that stood in argv, or in USER, comes to us: see `smbmount.hiding`."""

_NOT_UTF8: Final = "the {} is not UTF-8: write it in UTF-8"
_LARGEST_FILE: Final = 64 * 1024
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_KEYS: Final = {
    "username": "username",
    "user": "username",
    "password": "password",
    "pass": "password",
    "password2": "password2",
    "domain": "domain",
    "dom": "domain",
    "workgroup": "domain",
}
_DOMAIN_SEPARATOR: Final = re.compile(r"[\\/]")


@dataclass(frozen=True, slots=True)
class Tickets:
    """What gets Kerberos tickets, if no password does: a cache, a file of keys, another user's cache."""

    cache: str = ""
    keytab: str = ""
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """The account to log on with."""

    username: str
    password: Secret
    domain: str
    kind: Literal["ntlm", "kerberos", "negotiate", "guest", "anonymous"]
    other_password: Secret | None = None
    """What to try when the server does not take `password` any more."""
    tickets: Tickets = Tickets()

    def __str__(self) -> str:
        if self.kind in ("guest", "anonymous") or not self.username:
            return self.kind
        return f"{self.domain}\\{self.username}" if self.domain else self.username


@dataclass(frozen=True, slots=True)
class FileCredentials:
    """What a credentials file says; None = no such line."""

    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    other_password: Secret | None = None


def read_credentials(path: str) -> FileCredentials:
    """Read a credentials file; raises `CredentialsError` if it is missing, open to others, or malformed."""
    return parse_credentials(_read_private_file(path, "credentials file"), path)


def parse_credentials(content: bytes, path: str) -> FileCredentials:
    """Parse `key=value` lines as mount.cifs does; `path` is for messages, which never quote a line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CredentialsError(f"credentials file {path} is not UTF-8: save it as UTF-8") from None
    found: dict[str, str] = {}
    for number, ended in enumerate(text.split("\n"), start=1):
        line = ended.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        field = _KEYS.get(key.rstrip(" \t").lower())
        if not equals or field is None or "\0" in value:
            raise CredentialsError(
                f"line {number} of credentials file {path} is wrong: write username=, password= or domain="
            )
        found[field] = value
    password, other = (
        Secret(found[field]) if field in found else None for field in ("password", "password2")
    )
    return FileCredentials(found.get("username"), password, found.get("domain"), other)


def resolve_login(
    options: MountOptions, environ: Mapping[str, str], ask: Callable[[str], str] | None, default_user: str
) -> Login:
    """Find out who logs on.

    `environ` is the environment; `ask` shows a prompt and returns the answer, None where there is no
    terminal; `default_user` is who runs us. Raises `CredentialsError`.
    """
    file = FileCredentials() if options.credentials is None else read_credentials(options.credentials)
    environ_user, percent, environ_password = environ.get("USER", "").partition("%")
    given = options.username or file.username
    in_name, username = split_domain(given or environ_user or default_user)
    domain = next((text for text in (options.domain, file.domain, in_name) if text is not None), "")
    if options.sec == "none":
        return Login("", Secret(""), "", "anonymous")
    _check_utf8(username, "user name")
    _check_utf8(domain, "domain")
    if options.guest:
        return Login(username if given else "", Secret(""), domain if given else "", "guest")
    password = _given_password(options, file, environ)
    if options.kerberos:
        if password is None and not given:
            username = domain = ""
        return _kerberos_login(
            options, environ, Login(username, password or Secret(""), domain, "kerberos", file.other_password)
        )
    if password is None and not given:
        password = _password_of_user(environ, Secret(environ_password) if percent else None)
    if password is None:
        password = _ask_for_password(ask, username)
    _check_utf8(password.reveal(), "password")
    return Login(username, password, domain, "ntlm", file.other_password)


def _kerberos_login(options: MountOptions, environ: Mapping[str, str], login: Login) -> Login:
    """The login with what gets it a ticket; a password is never asked for, as a ticket makes it needless."""
    _check_utf8(login.password.reveal(), "password")
    if options.cruid is not None and login.password.reveal():
        raise CredentialsError("cruid and a password are two ways to a ticket: give one of them")
    if options.cruid not in (None, os.geteuid()) and os.geteuid() != 0:
        raise CredentialsError("only root may use the tickets of another user: leave out cruid")
    keytab = ""
    if options.keytab is not None:
        # It is read again later, when the working directory is another one.
        keytab = os.path.abspath(options.keytab.removeprefix("FILE:"))
        _read_private_file(keytab, "keytab")
    tickets = Tickets(_cache_name(environ.get("KRB5CCNAME", "")), keytab, options.cruid)
    return replace(login, kind="negotiate" if options.sec == "negotiate" else "kerberos", tickets=tickets)


def _cache_name(name: str) -> str:
    """The name of a ticket cache, valid in any working directory; "" = the default one."""
    kind, colon, path = name.partition(":")
    if not colon or "/" in kind:
        kind, path = "FILE", name
    if kind not in ("FILE", "DIR") or not path or path.startswith(":"):
        return name
    return f"{kind}:{os.path.abspath(path)}"


def renew_login(login: Login, path: str | None) -> list[Login]:
    """The accounts to try when the server refuses `login`: with the passwords that the credentials file has
    now, and those of before. Raises `CredentialsError` if the file cannot be used."""
    passwords = [login.password, login.other_password]
    if path is not None:
        file = read_credentials(path)
        passwords = [file.password, file.other_password, *passwords]
    return [replace(login, password=password) for password in passwords if password is not None]


def split_domain(name: str) -> tuple[str | None, str]:
    """Cut `DOMAIN\\NAME` or `DOMAIN/NAME`; `NAME@REALM` stays whole, as servers expect it."""
    if match := _DOMAIN_SEPARATOR.search(name):
        return name[: match.start()], name[match.end() :]
    return None, name


def _given_password(
    options: MountOptions, file: FileCredentials, environ: Mapping[str, str]
) -> Secret | None:
    if HANDED_OVER in environ:
        return _read_descriptor(HANDED_OVER, environ[HANDED_OVER])
    if options.password is not None:
        return options.password
    if file.password is not None:
        return file.password
    if "PASSWD" in environ:
        return Secret(environ["PASSWD"])
    if "PASSWD_FD" in environ:
        return _first_line(_read_descriptor("PASSWD_FD", environ["PASSWD_FD"]))
    if "PASSWD_FILE" in environ:
        content = _read_private_file(environ["PASSWD_FILE"], "PASSWD_FILE")
        return _first_line(_as_secret(content, "PASSWD_FILE"))
    return None


def _password_of_user(environ: Mapping[str, str], stated: Secret | None) -> Secret | None:
    if HANDED_OVER_OF_USER in environ:
        return _read_descriptor(HANDED_OVER_OF_USER, environ[HANDED_OVER_OF_USER])
    return stated


def _check_utf8(text: str, what: str) -> None:
    if not is_utf8(text):
        raise CredentialsError(_NOT_UTF8.format(what))


def _first_line(secret: Secret) -> Secret:
    return Secret(secret.reveal().split("\n", 1)[0].removesuffix("\r"))


def _as_secret(content: bytes, source: str) -> Secret:
    try:
        return Secret(content.decode())
    except UnicodeDecodeError:
        raise CredentialsError(f"the password from {source} is not UTF-8: store it as UTF-8") from None


def _read_descriptor(variable: str, number: str) -> Secret:
    if re.fullmatch(r"[0-9]{1,7}", number) is None:
        raise CredentialsError(f"the variable {variable} must hold the number of an open file descriptor")
    try:
        with open(int(number), "rb", closefd=int(number) > 2) as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise CredentialsError(
            f"cannot read a password from file descriptor {number} of {variable}: {_words(error)}"
        ) from None
    if len(content) > _LARGEST_FILE:
        raise CredentialsError(f"the password from {variable} is too long")
    return _as_secret(content, variable)


def _read_private_file(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            shared = os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS
            content = b"" if shared else file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise CredentialsError(f"cannot read {what} {path}: {_words(error)}") from None
    if shared:
        raise CredentialsError(f"{what} {path} is open to its group or to others: run chmod 600 {path}")
    if len(content) > _LARGEST_FILE:
        raise CredentialsError(f"{what} {path} is larger than {_LARGEST_FILE} bytes: is it the right file?")
    return content


def _words(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _ask_for_password(ask: Callable[[str], str] | None, username: str) -> Secret:
    if ask is None:
        raise CredentialsError(
            f"no password for {username!r}, and no terminal to ask for it: use credentials=FILE, or guest"
        )
    try:
        return Secret(ask(f"Password of {username}: "))
    except EOFError:
        raise CredentialsError(
            f"no password was given for {username!r}: type it at the prompt, or use credentials=FILE"
        ) from None
    except UnicodeDecodeError:
        raise CredentialsError(_NOT_UTF8.format("password")) from None
