"""No password in a log line, at any level and in no traceback."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from smbmount.logs import MaskingFormatter
from smbmount.secret import Secret

CANARY = "can'ary\\ü 1"


def formatted(message: str, *arguments: object, secrets: list[Secret] | None = None) -> str:
    formatter = MaskingFormatter("%(levelname)s %(message)s", secrets or [Secret(CANARY)])
    record = logging.LogRecord("x", logging.DEBUG, __file__, 1, message, arguments, None)
    return formatter.format(record)


@pytest.mark.parametrize(
    "leak",
    [
        CANARY,
        repr(CANARY),
        repr(CANARY.encode()),
        repr(CANARY.encode("utf-16-le")),
        CANARY.encode("utf-16-le").hex(),
        f"user:{CANARY}@server",
    ],
)
def test_every_spelling_is_masked(leak: str) -> None:
    text = formatted("sent %s off", leak)
    assert "***" in text
    assert "can" not in text
    assert CANARY.encode("utf-16-le").hex() not in text


def test_other_text_stays() -> None:
    assert formatted("mounted %s", "//server/share") == "DEBUG mounted //server/share"


def test_an_empty_password_masks_nothing() -> None:
    assert formatted("abc", secrets=[Secret("")]) == "DEBUG abc"


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert formatted("xx abcdef", secrets=[Secret("abc"), Secret("abcdef")]) == "DEBUG xx ***"


def test_a_traceback_is_masked() -> None:
    formatter = MaskingFormatter("%(message)s", [Secret(CANARY)])
    try:
        raise ValueError(f"bad password {CANARY}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    text = formatter.format(record)
    assert "ValueError: bad password ***" in text
    assert CANARY not in text


def test_a_reply_that_nobody_wants_any_more_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "import logging\n"
        "from smbmount.logs import set_up_logging\n"
        "set_up_logging(logging.WARNING, [], to_stderr=True, to_syslog=False)\n"
        "log = logging.getLogger('pyfuse3')\n"
        "log.error('fuse_release(): fuse_reply_* failed with %s', 'No such file or directory')\n"
        "log.error('fuse_release(): fuse_reply_* failed with %s', 'Invalid argument')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    lines = capfd.readouterr().err.splitlines()
    assert [line.rpartition(" with ")[2] for line in lines] == ["Invalid argument"]
