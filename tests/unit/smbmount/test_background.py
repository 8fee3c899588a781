"""Going to the background, with real forks: the parent's exit code is the child's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbmount.background import INTERNAL_ERROR, Verdict
from smbmount.failures import ExitCode

PROGRAM = """
import os, signal, sys
from smbmount.background import serve_in_background
from smbmount.failures import ExitCode, MountFailure

inherited = os.dup(1)

def works(ready):
    ready()
    os.write(1, b"lost")
    os.write(2, b"lost")
    state = [os.getcwd(), os.getsid(0) == os.getpid(), os.umask(0)]
    state += [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
    try:
        os.fstat(inherited)
    except OSError:
        state.append("closed")
    with open(sys.argv[2], "w") as file:
        file.write(repr(state))

def fails(ready):
    raise MountFailure("no such share: ü", ExitCode.MOUNT_FAILED)

def fails_later(ready):
    ready()
    raise MountFailure("too late", ExitCode.SYSTEM)

def dies(ready):
    os.kill(os.getpid(), signal.SIGKILL)

def waits(ready):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getppid(), signal.SIGINT)
    if signal.sigtimedwait([signal.SIGTERM], 30) is None:
        raise MountFailure("nobody told the child", ExitCode.INTERNAL)
    raise MountFailure("interrupted", ExitCode.INTERRUPTED)

def waits_while_its_parent_is_interrupted_early(ready):
    if signal.sigtimedwait([signal.SIGTERM], 30) is not None:
        with open(sys.argv[2], "w") as file:
            file.write("told")

def fork_and_interrupt():
    pid = fork()
    if pid:
        os.kill(os.getpid(), signal.SIGINT)
    return pid

if "early" in sys.argv[1]:
    fork, os.fork = os.fork, fork_and_interrupt
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

try:
    code = serve_in_background(globals()[sys.argv[1]])
except MountFailure as failure:
    print(failure)
    code = failure.code
except KeyboardInterrupt:
    print("interrupted")
    code = ExitCode.INTERRUPTED
sys.exit(code)
"""


def run(how: str, report: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(report)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_parent_ends_when_the_child_is_ready_and_the_child_is_a_daemon(tmp_path: Path) -> None:
    report = tmp_path / "report"
    os.mkfifo(report)
    done = run("works", report)
    # The pipes of `run` end only when the child has let go of them too.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert report.read_text() == repr(["/", True, 0, *["/dev/null"] * 3, "closed"])


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("fails", ExitCode.MOUNT_FAILED, "no such share: ü\n"),
        ("fails_later", ExitCode.SUCCESS, ""),
        ("dies", ExitCode.INTERNAL, INTERNAL_ERROR + "\n"),
        ("waits", ExitCode.INTERRUPTED, "interrupted\n"),
    ],
)
def test_the_childs_word_is_the_parents(tmp_path: Path, how: str, code: ExitCode, line: str) -> None:
    done = run(how, tmp_path / "report")
    assert (done.returncode, done.stdout) == (code, line)


def test_an_interruption_right_after_the_fork_is_passed_on(tmp_path: Path) -> None:
    """Not only one that comes when the parent is already listening to its child."""
    done = run("waits_while_its_parent_is_interrupted_early", tmp_path / "report")
    assert (done.returncode, done.stdout) == (ExitCode.INTERRUPTED, "interrupted\n")
    assert (tmp_path / "report").read_text() == "told"


@given(st.sampled_from(ExitCode), st.text(st.characters(codec="utf-8")))
def test_a_verdict_survives_the_pipe(code: ExitCode, message: str) -> None:
    assert Verdict.decode(Verdict(code, message).encode()) == Verdict(code, message)
