"""Logging on: what is refused, and what an anonymous log-on looks like."""

from __future__ import annotations

import struct

import pytest
import trio

import engine
from engine import ntstatus
from engine.client.anonymous import authenticate_message, negotiate_message
from engine.wire.constants import Command
from tests.fakes.server import PASSWORD, USER, FakeServer, running
from tests.fakes.server_behaviours import AnswersLogOnWith, GarblesLogOn
from tests.unit.client.support import ACCOUNT, DEADLINE, NOBODY, connected


def outcome(server: FakeServer, credentials: engine.Credentials = ACCOUNT) -> engine.SmbError | None:
    """What connecting ends with."""

    async def main() -> engine.SmbError | None:
        with trio.fail_after(DEADLINE):
            async with running(server):
                try:
                    async with engine.connect(server.unc, credentials):
                        return None
                except engine.SmbError as error:
                    return error

    return trio.run(main)


def test_the_right_password() -> None:
    assert outcome(FakeServer()) is None


@pytest.mark.parametrize(
    "credentials", [engine.Credentials(USER, "canary-8"), engine.Credentials("x", PASSWORD)]
)
def test_a_wrong_password_or_name(credentials: engine.Credentials) -> None:
    error = outcome(FakeServer(), credentials)
    assert isinstance(error, engine.AuthError)
    assert error.status == ntstatus.STATUS_LOGON_FAILURE
    assert credentials.username in str(error)
    assert credentials.password not in str(error)


@pytest.mark.parametrize(
    ("credentials", "name"),
    [(NOBODY, "'nobody'"), (engine.Credentials(kind=engine.AuthKind.GUEST), "'guest'"), (ACCOUNT, USER)],
)
def test_a_refusal_says_who_was_refused(credentials: engine.Credentials, name: str) -> None:
    error = outcome(AnswersLogOnWith(ntstatus.STATUS_ACCOUNT_DISABLED, guest=True), credentials)
    assert isinstance(error, engine.AuthError)
    assert error.status == ntstatus.STATUS_ACCOUNT_DISABLED
    assert name in str(error)


def test_a_log_on_that_never_ends() -> None:
    server = AnswersLogOnWith(ntstatus.STATUS_MORE_PROCESSING_REQUIRED)
    error = outcome(server, NOBODY)
    assert isinstance(error, engine.AuthError)
    assert "never comes to an end" in str(error)
    assert server.received.count(Command.SESSION_SETUP) == 10


def test_a_success_that_comes_too_early_gives_no_key() -> None:
    error = outcome(AnswersLogOnWith(ntstatus.STATUS_SUCCESS))
    assert isinstance(error, engine.AuthError)


@pytest.mark.parametrize("seed", range(12))
def test_garbled_log_on_messages(seed: int) -> None:
    error = outcome(GarblesLogOn(seed))
    assert error is None or isinstance(error, engine.AuthError | engine.RemoteProtocolError)


@pytest.mark.parametrize("level", ["0", "1", "2"])
def test_ntlmv1_is_refused(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", level)
    server = FakeServer()
    error = outcome(server)
    assert isinstance(error, engine.AuthError)
    assert "LM_COMPAT_LEVEL" in str(error)
    assert Command.SESSION_SETUP not in server.received


@pytest.mark.parametrize("level", ["3", "4", "5"])
def test_ntlmv2_is_not_refused(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", level)
    assert outcome(FakeServer()) is None


@pytest.mark.parametrize(
    "credentials",
    [
        engine.Credentials(USER, PASSWORD, "SOMEWHERE"),
        engine.Credentials(f"{USER}@somewhere.example", PASSWORD),
        engine.Credentials(f"{USER}@somewhere.example", PASSWORD, "SOMEWHERE"),
    ],
)
def test_the_domain_is_part_of_the_name(
    credentials: engine.Credentials, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    users = tmp_path_factory.mktemp("users") / "users"
    domain = "" if "@" in credentials.username else credentials.domain
    users.write_text(f"{domain}:{credentials.username}:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    assert outcome(FakeServer(), credentials) is None


def test_the_layout_of_the_anonymous_negotiate_message() -> None:
    message = negotiate_message()
    assert len(message) == 32
    signature, kind, flags = struct.unpack_from("<8sII", message)
    assert (signature, kind) == (b"NTLMSSP\0", 1)
    assert flags == 0x00080205
    assert message[16:] == bytes(16)


def test_the_layout_of_the_anonymous_authenticate_message() -> None:
    message = authenticate_message()
    signature, kind = struct.unpack_from("<8sI", message)
    assert (signature, kind) == (b"NTLMSSP\0", 3)
    fields = list(struct.iter_unpack("<HHI", message[12:60]))
    assert fields[0] == (1, 1, 64), "an LM response of one byte is what makes it anonymous"
    assert fields[1:] == [(0, 0, 65)] * 5, "no NT response, domain, user, workstation, key"
    (flags,) = struct.unpack_from("<I", message, 60)
    assert flags == 0x00080A05
    assert message[64:] == b"\0"


def test_a_server_that_demands_encryption_and_has_no_cipher() -> None:
    error = outcome(FakeServer(cipher=None, encrypts=True))
    assert isinstance(error, engine.AuthError)
    assert "no cipher in common" in str(error)


def test_what_is_negotiated_is_told() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server) as share:
            told = share.description
            assert told.address == "127.0.0.1"
            assert told.signing == "AES-GMAC"
            assert (told.cipher, told.encrypted, told.guest) == (None, False, False)
            assert (told.max_read, told.max_write, told.max_transact) == (1 << 20, 1 << 20, 1 << 20)
        limits = engine.ConnectConfig(max_read=100_000, max_write=200_000)
        async with connected(FakeServer(), limits) as share:
            assert (share.max_read, share.max_write) == (100_000, 200_000)
            assert (share.description.max_read, share.description.max_write) == (100_000, 200_000)

    trio.run(main)
