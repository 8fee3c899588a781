"""The peers that are mounted: smbmount itself, `rclone mount` and smbnetfs; and a local folder beside."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from smbmount.mounttable import detach, topmost_mount
from tests.benchmarks.peers.peer import STOP_SECONDS, Driver, Kind, Outcome, PeerError, Protection, Site
from tests.benchmarks.peers.works import Step
from tests.support.mounting import Mount, MountError

_START_SECONDS: Final = 30.0
_SMB_PORT: Final = 445


class Local:
    """The server's own folder: what the same work costs without any network file system."""

    name = "local"
    kind: Kind = "local"
    settings = "the server's folder itself, in memory"

    def __init__(self) -> None:
        self._root = ""
        self._driver: Driver | None = None

    def start(self, site: Site) -> None:
        self._root = str(site.server.share_path(site.share))
        self._driver = Driver("os", {}, _START_SECONDS)

    def stop(self) -> None:
        if self._driver is not None:
            self._driver.stop()
        self._driver = None

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        assert self._driver is not None
        return self._driver.run(step, f"{self._root}/{folder}", seconds)

    def round_trips(self) -> int | None:
        return None


class Smbmount:
    """The project's own mount, by its command line, with the defaults."""

    name = "smbmount"
    kind: Kind = "ours"
    settings = "defaults; plain: nosign, sealed: seal"

    _OPTIONS: Final[Mapping[Protection, tuple[str, ...]]] = {
        "plain": ("nosign",),
        "signed": ("sign",),
        "sealed": ("seal",),
    }

    def __init__(self) -> None:
        self._mount: Mount | None = None
        self._driver: Driver | None = None

    def start(self, site: Site) -> None:
        mountpoint = Path(tempfile.mkdtemp(dir=site.scratch))
        options = (f"port={site.port}", f"ip={site.address}", *self._OPTIONS[site.protection])
        self._mount = Mount(site.server, mountpoint, share=site.share, options=options)
        try:
            self._mount.start()
        except MountError as error:
            raise PeerError(str(error)) from None
        self._driver = Driver("os", {}, _START_SECONDS)

    def stop(self) -> None:
        mount, self._mount = self._mount, None
        driver, self._driver = self._driver, None
        if mount is None:
            return
        try:
            if driver is not None and driver.is_busy:
                # Not even a signal ends a call that the daemon does not answer.
                mount.abort()
                driver.stop()
                return
            if driver is not None:
                driver.stop()
            mount.close()
        except MountError as error:
            raise PeerError(str(error)) from None
        finally:
            # The log, which this would show, is in the error if it matters.
            with contextlib.redirect_stdout(io.StringIO()):
                mount.destroy()
            mount.path.rmdir()

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        assert self._driver is not None
        assert self._mount is not None
        return self._driver.run(step, f"{self._mount.path}/{folder}", seconds)

    def round_trips(self) -> int | None:
        assert self._mount is not None
        return int(self._mount.statistics()["round_trips"])


class ForeignMount:
    """A mount by somebody else's daemon, which stays in the foreground."""

    name = ""
    kind: Kind = "mount"
    settings = ""

    def __init__(self) -> None:
        self._mountpoint: Path | None = None
        self._root = Path()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._driver: Driver | None = None
        self._log = Path()

    def command(self, site: Site, mountpoint: Path) -> tuple[list[str], Mapping[str, str]]:
        """The daemon's command line and what it finds in its environment."""
        raise NotImplementedError

    def root(self, site: Site, mountpoint: Path) -> Path:
        """Where the share appears."""
        return mountpoint

    def start(self, site: Site) -> None:
        self._mountpoint = Path(tempfile.mkdtemp(dir=site.scratch))
        self._root = self.root(site, self._mountpoint)
        self._log = site.scratch / f"{self.name}.log"
        command, env = self.command(site, self._mountpoint)
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
            )
        self._wait_until_mounted(self._daemon, self._mountpoint)
        self._driver = Driver("os", {}, _START_SECONDS)
        # The log-on happens at the first look.
        look = Step("", "list_long", "")
        self._driver.run(look, str(self._root), _START_SECONDS)

    def _wait_until_mounted(self, daemon: subprocess.Popen[bytes], mountpoint: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while topmost_mount(str(mountpoint)) is None:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"no mount: {self._log.read_text(errors='replace')[-300:].strip()}")
            time.sleep(0.01)

    def stop(self) -> None:
        driver, self._driver = self._driver, None
        daemon, self._daemon = self._daemon, None
        mountpoint, self._mountpoint = self._mountpoint, None
        if driver is not None:
            if driver.is_busy and daemon is not None:
                # Not even a signal ends a call that the daemon does not answer.
                daemon.kill()
            driver.stop()
        if mountpoint is not None:
            while topmost_mount(str(mountpoint)) is not None:
                detach(str(mountpoint))
        if daemon is not None:
            try:
                daemon.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if mountpoint is not None:
            mountpoint.rmdir()

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        assert self._driver is not None
        return self._driver.run(step, f"{self._root}/{folder}", seconds)

    def round_trips(self) -> int | None:
        return None


class Rclone(ForeignMount):
    """`rclone mount` with its backend smb, without its file cache: writes are sequential only."""

    name = "rclone"
    settings = "mount, backend smb, defaults (no file cache); signs always"
    cache: tuple[str, ...] = ("--vfs-cache-mode", "off")

    def command(self, site: Site, mountpoint: Path) -> tuple[list[str], Mapping[str, str]]:
        env = {
            "RCLONE_CONFIG": "",
            "RCLONE_SMB_HOST": site.address,
            "RCLONE_SMB_PORT": str(site.port),
            "RCLONE_SMB_USER": site.server.user,
            "RCLONE_SMB_PASS": _obscured(site.server.password),
            "HOME": str(site.scratch),
        }
        cache = ("--cache-dir", tempfile.mkdtemp(dir=site.scratch))
        return ["rclone", "mount", f":smb:{site.share}", str(mountpoint), *self.cache, *cache], env


class RcloneWrites(Rclone):
    """The same with its cache for writes, and without the five seconds that it waits before it stores."""

    name = "rclone-writes"
    settings = (
        "as rclone, with --vfs-cache-mode writes --vfs-write-back 0s: stored after the close, without delay"
    )
    cache = ("--vfs-cache-mode", "writes", "--vfs-write-back", "0s")


class Smbnetfs(ForeignMount):
    """smbnetfs, which goes by libsmbclient and shows a whole network; it knows no port but 445."""

    name = "smbnetfs"
    settings = "defaults; protection by `client signing` and `client smb encrypt` in its smb.conf"

    _PROTECTION: Final[Mapping[Protection, str]] = {
        "plain": "client signing = if_required",
        "signed": "client signing = required",
        "sealed": "client smb encrypt = required",
    }

    def command(self, site: Site, mountpoint: Path) -> tuple[list[str], Mapping[str, str]]:
        if site.port != _SMB_PORT:
            raise PeerError(f"knows no port but {_SMB_PORT}, which only root may give to the server")
        folder = site.scratch / ".smb"
        folder.mkdir(exist_ok=True)
        server = site.server
        files = {
            "smb.conf": "[global]\nname resolve order = host\nclient min protocol = SMB2_02\n"
            f"client max protocol = SMB3\n{self._PROTECTION[site.protection]}\n",
            "smbnetfs.conf": 'include "smbnetfs.auth"\n',
            "smbnetfs.auth": f'auth "{site.address}" "{server.user}" "{server.password}"\n',
        }
        for name, text in files.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)
        return ["smbnetfs", str(mountpoint), "-f"], {"HOME": str(site.scratch)}

    def root(self, site: Site, mountpoint: Path) -> Path:
        return mountpoint / site.address / site.share


def _obscured(password: str) -> str:
    done = subprocess.run(
        ["rclone", "obscure", "-"], input=password, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
