"""`smbmountctl doctor` against real servers: it names the step that fails, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mount.test_control import ctl
from tests.support.factories import SambaFactory
from tests.support.samba import SambaServer

STEPS = ["name", "TCP", "negotiate", "log-on", "share", "read", "DFS"]


def seen(
    server: SambaServer, *options: str, share: str = "data", host: str = ""
) -> tuple[int, list[str], str]:
    """The exit code, the steps that are well, and what is said of the one that is not."""
    given = ",".join((f"port={server.port}", *options))
    code, output, said = ctl("doctor", "--json", "-o", given, f"//{host or server.address}/{share}")
    findings = json.loads(output) if output else []
    failed = [f"{one['step']}: {one['said']}" for one in findings if not one["ok"]]
    assert len(failed) <= 1
    return code, [one["step"] for one in findings if one["ok"]], "".join(failed) or said


def account(server: SambaServer) -> str:
    return f"credentials={server.credentials_file}"


def test_all_is_well(samba: SambaServer, share_path: Path) -> None:
    (share_path / "file").write_text("content")
    code, well, said = seen(samba, account(samba), share=f"data/{share_path.name}")
    assert (code, well, said) == (0, STEPS, "")


def test_for_a_person(samba: SambaServer, share_path: Path) -> None:
    (share_path / "file").write_text("content")
    given = f"port={samba.port},{account(samba)}"
    code, output, _ = ctl("doctor", "-o", given, f"{samba.unc()}/{share_path.name}")
    lines = output.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines] == [[step, "ok"] for step in STEPS]
    assert "SMB 3.1.1" in lines[2]
    assert "NTLM" in lines[3]
    assert "file is read" in lines[5]


def test_unknown_host(samba: SambaServer) -> None:
    code, well, said = seen(samba, account(samba), host="no-such-host.invalid")
    assert (code, well) == (2, [])
    assert said.startswith("name: no host no-such-host.invalid is known")


def test_nobody_listens(samba: SambaServer) -> None:
    code, output, _ = ctl(
        "doctor", "-o", f"port=1,{account(samba)}", samba.unc().replace(f":{samba.port}", "")
    )
    assert code == 2
    assert [line.split()[:2] for line in output.splitlines()] == [["name", "ok"], ["TCP", "FAILED"]]
    assert "nothing listens on port 1" in output


def test_negotiation_that_fails(samba_factory: SambaFactory) -> None:
    server = samba_factory(global_options={"server max protocol": "SMB2_10"})
    code, well, said = seen(server, account(server), "vers=3.1.1")
    assert (code, well) == (2, STEPS[:2])
    assert said.startswith("negotiate: ")
    assert "vers" in said


def test_wrong_password(samba: SambaServer, tmp_path: Path) -> None:
    wrong = tmp_path / "credentials"
    wrong.write_text(f"username={samba.user}\npassword=wrong\n")
    wrong.chmod(0o600)
    code, well, said = seen(samba, f"credentials={wrong}")
    assert (code, well) == (2, STEPS[:3])
    assert said.startswith("log-on: ")
    assert "refused" in said


@pytest.mark.parametrize(
    ("share", "step", "words"),
    [
        ("missing", "share", "STATUS_BAD_NETWORK_NAME"),
        ("data/no/folder", "read", "has no folder 'no/folder'"),
    ],
)
def test_share_or_folder_that_is_not_there(samba: SambaServer, share: str, step: str, words: str) -> None:
    code, well, said = seen(samba, account(samba), share=share)
    assert (code, well) == (2, STEPS[: STEPS.index(step)])
    assert said.startswith(f"{step}: ")
    assert words in said


def test_share_of_no_files(samba: SambaServer) -> None:
    code, well, said = seen(samba, account(samba), share="IPC$")
    assert (code, well) == (2, STEPS[:5])
    assert "share of named pipes" in said


def test_folder_that_the_account_may_not_list(samba: SambaServer, share_path: Path) -> None:
    share_path.chmod(0o300)
    code, well, said = seen(samba, account(samba), share=f"data/{share_path.name}")
    share_path.chmod(0o700)
    assert (code, well) == (2, STEPS[:5])
    assert "STATUS_ACCESS_DENIED" in said


def test_wrong_use_is_one_sentence(samba: SambaServer) -> None:
    for arguments, words in (
        (["doctor"], "1 path must be given"),
        (["doctor", "-o", "username=me,password=secret", "//srv/share"], "use credentials=FILE"),
        (["doctor", "-o", "guest,wrong", "//srv/share"], "unknown option"),
        (["doctor", "-o", "guest", "//srv"], "names no share"),
    ):
        code, output, said = ctl(*arguments)
        assert code == 1
        assert output == ""
        assert words in said
