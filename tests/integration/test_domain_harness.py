"""The throw-away domain is as the tests need it, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.integration.support_servers import processes_of
from tests.support.domain import PASSWORD, USER, Domain
from tests.support.mounting import CHECKOUT
from tests.support.tools import wait_until

_OWNER: Final = """
from contextlib import ExitStack
from tests.support.domain import Domain
from tests.support.member import Member
with ExitStack() as stack:
    domain = stack.enter_context(Domain())
    members = [stack.enter_context(Member(domain, "fs1"))] if domain.can_be_joined else []
    print(domain.base, *(member.base for member in members), flush=True)
    input()
"""


def test_the_machine_s_own_kerberos_is_left_alone(domain: Domain, tmp_path: Path) -> None:
    domain.kinit(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    assert domain.address not in Path("/etc/hosts").read_text()
    assert "KRB5CCNAME" not in domain.environ


def test_other_options_hold_for_a_while(domain: Domain) -> None:
    before = domain.conf.read_text()
    with domain.configured(server_signing="mandatory"):
        assert "server signing = mandatory" in domain.conf.read_text()
    assert domain.conf.read_text() == before


def is_left(base: Path) -> bool:
    """Whether there is something of the server in this folder."""
    return bool(processes_of(base)) or base.exists()


@pytest.mark.deadline(120)
@pytest.mark.parametrize("end", ["asked to end", "killed"])
def test_nothing_is_left_of_a_domain_and_its_member(domain: Domain, end: str) -> None:
    """Beside the other one, too, as both have addresses of their own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        bases = [Path(base) for base in process.stdout.readline().split()]
        assert len(bases) == 1 + domain.can_be_joined
        assert all(len(processes_of(base)) > 2 for base in bases)
        if end == "killed":
            process.kill()
        else:
            process.communicate("\n")
    wait_until(lambda: not any(map(is_left, bases)), "processes and folders are gone", 20.0)
    assert USER in domain.samba_tool("user", "list")
    assert PASSWORD not in domain.log_text()
