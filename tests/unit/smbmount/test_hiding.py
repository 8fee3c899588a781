"""Passwords leave argv and the environment: what the program is started with instead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from smbmount.credentials import HANDED_OVER, HANDED_OVER_OF_USER
from smbmount.failures import CredentialsError
from smbmount.hiding import LONGEST_PASSWORD, Restart, plan_restart, restart
from smbmount.options import parse_options
from smbmount.secret import Secret


def plan(text: str, environ: Mapping[str, str] | None = None) -> Restart | None:
    return plan_restart([text], parse_options(text), environ or {})


@pytest.mark.parametrize("text", ["", "user=me,credentials=/c", "guest,ro"])
def test_nothing_in_sight_needs_no_restart(text: str) -> None:
    assert plan(text, {"USER": "me", "PASSWD_FILE": "/x", "PASSWD_FD": "3"}) is None


@pytest.mark.parametrize(
    ("text", "left", "password"),
    [
        ("ro,password=p\\,q,port=1", "ro,port=1", "p,q"),
        ("pass=p", "", "p"),
        ("user=D\\me%p,uid=5", "user=D\\me,uid=5", "p"),
        ("username=me%p,password=q,credentials=/a\\,b", "username=me,credentials=/a\\,b", "q"),
        ("password=", "", ""),
    ],
)
def test_passwords_leave_the_options(text: str, left: str, password: str) -> None:
    found = plan(text)
    assert found is not None
    assert found.option_texts == (left,)
    assert found.handed == {HANDED_OVER: Secret(password)}
    assert parse_options(left).password is None


def test_passwords_leave_the_environment() -> None:
    found = plan("", {"PASSWD": "p", "USER": "me%q", "HOME": "/h"})
    assert found is not None
    assert found.environ == {"USER": "me", "HOME": "/h"}
    assert found.handed == {"PASSWD_FD": Secret("p"), HANDED_OVER_OF_USER: Secret("q")}


def test_an_option_and_a_variable_are_both_hidden() -> None:
    found = plan("password=p", {"PASSWD": "q"})
    assert found is not None
    assert found.handed == {HANDED_OVER: Secret("p"), "PASSWD_FD": Secret("q")}
    assert "PASSWD" not in found.environ


def test_no_password_is_in_repr() -> None:
    assert "canary" not in repr(plan("password=canary", {"PASSWD": "canary"}))


def test_a_password_longer_than_the_pipe_takes_is_refused() -> None:
    found = plan("password=" + "x" * (LONGEST_PASSWORD + 1))
    assert found is not None
    with pytest.raises(CredentialsError, match="longer than"):
        restart(found, [])


PROGRAM = """
import os, sys
from smbmount.hiding import plan_restart, restart
from smbmount.options import parse_options
found = plan_restart([sys.argv[1]], parse_options(sys.argv[1]), os.environ)
if found is not None:
    restart(found, list(found.option_texts))
seen = open("/proc/self/cmdline", "rb").read() + open("/proc/self/environ", "rb").read()
words = [open(int(os.environ[name]), "rb").read() for name in ("SMBMOUNT_PASSWORD_FD", "PASSWD_FD")]
print(b"can" b"ary" in seen, sys.argv[1], words)
"""


def test_a_process_that_started_with_passwords_shows_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "ro,password=canary one,port=1"],
        env={**os.environ, "PASSWD": "canary two"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "False ro,port=1 [b'canary one', b'canary two']\n"
