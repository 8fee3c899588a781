"""A mount as decided: what the command line said, translated for the engine, the file system and FUSE."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine import (
    AuthKind,
    ConnectConfig,
    Credentials,
    Dialect,
    Share,
    TicketSource,
    Unc,
    connect,
    missing_for_kerberos,
    parse_unc,
)
from smbmount.credentials import Login, renew_login
from smbmount.failures import CredentialsError, ExitCode, MountFailure
from smbmount.options import MountOptions
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.names import NameMap

logger = logging.getLogger(__name__)

FUSE_CONFIG: Final = "/etc/fuse.conf"
SUBTYPE: Final = "smbmount"

_KINDS: Final = {
    "ntlm": AuthKind.NTLM,
    "kerberos": AuthKind.KERBEROS,
    "negotiate": AuthKind.NEGOTIATE,
    "guest": AuthKind.GUEST,
    "anonymous": AuthKind.ANONYMOUS,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a mount needs to know; `prefix` is an SMB path, `mountpoint` absolute and checked."""

    source: str
    unc: Unc
    prefix: str
    mountpoint: str
    options: MountOptions
    login: Login


def read_source(text: str, port: int | None = None) -> tuple[str, Unc]:
    """Parse the share's name; returns it with slashes, as the mount table shows it, and in parts.

    `port` is the option's. Raises `MountFailure`.
    """
    try:
        unc = parse_unc(text)
    except ValueError as error:
        raise MountFailure(str(error), ExitCode.USAGE) from None
    if None not in (port, unc.port) and port != unc.port:
        raise MountFailure(f"{text} and port={port} name two ports: give one of them", ExitCode.USAGE)
    return text.replace("\\", "/"), unc


def read_prefix(unc: Unc, options: MountOptions) -> str:
    """The folder to mount as an SMB path: that of `prefixpath`, else that behind the share's name."""
    given = unc.prefix if options.prefixpath is None else options.prefixpath
    parts = [part for part in given.replace("\\", "/").split("/") if part not in ("", ".")]
    names = NameMap(map_reserved=options.mapposix)
    try:
        if ".." in parts:
            raise ValueError("name the folder directly, without '..'")
        return "\\".join(names.encode(os.fsencode(part)) for part in parts)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MountFailure(f"the share cannot have a folder {given!r}: {why}", ExitCode.USAGE) from None


def credentials(login: Login) -> Credentials:
    """The account, as the engine takes it."""
    return Credentials(
        username=login.username,
        password=login.password.reveal(),
        domain=login.domain,
        kind=_KINDS[login.kind],
        tickets=TicketSource(login.tickets.cache, login.tickets.keytab, login.tickets.owner),
    )


def check_has_kerberos(login: Login) -> None:
    """Raises `MountFailure` if the login takes Kerberos, which is not installed."""
    needed = login.kind == "kerberos" or (login.kind == "negotiate" and not login.password.reveal())
    if needed and (problem := missing_for_kerberos()):
        raise MountFailure(problem, ExitCode.USAGE)


def renewed_credentials(plan: Plan) -> list[Credentials]:
    """The accounts to try when the server does not take ours any more: the credentials file is read again."""
    try:
        logins = renew_login(plan.login, plan.options.credentials)
    except CredentialsError as error:
        logger.warning("%s", error)
        return []
    return [credentials(login) for login in logins]


def connect_config(plan: Plan) -> ConnectConfig:
    """How the engine shall connect. A session without a password has no key to sign with."""
    options = plan.options
    return ConnectConfig(
        port=options.port or plan.unc.port or ConnectConfig().port,
        address=options.ip,
        min_dialect=Dialect(options.vers.lowest),
        max_dialect=Dialect(options.vers.highest),
        signing=plan.login.kind not in ("guest", "anonymous") and options.sign is not False,
        seal=options.seal,
        timeout=options.timeout,
        echo_interval=options.echo_interval,
        max_credits=options.max_credits,
        max_read=options.rsize,
        max_write=options.wsize,
        reconnect=True,
        dfs=options.dfs,
        dfs_hosts=options.dfs_hosts,
    )


def connect_below(
    plan: Plan, path: str, beside: Callable[[], Sequence[Share]]
) -> AbstractAsyncContextManager[Share]:
    """Connect once more, to what a path on the mount leads to (DFS), over a connection of a share `beside` it
    where that can be."""
    prefix = "\\".join(part for part in (plan.prefix, path) if part)
    unc = plan.unc._replace(prefix=prefix)
    renew = partial(renewed_credentials, plan)
    return connect(unc, credentials(plan.login), connect_config(plan), renew, beside)


def filesystem_config(plan: Plan) -> FileSystemConfig:
    """How the file system shall show the share."""
    options = plan.options
    return FileSystemConfig(
        uid=os.getuid() if options.uid is None else options.uid,
        gid=os.getgid() if options.gid is None else options.gid,
        file_mode=options.file_mode,
        dir_mode=options.dir_mode,
        attribute_timeout_file=options.attribute_timeout_file,
        attribute_timeout_directory=options.attribute_timeout_directory,
        map_names=options.mapposix,
        mfsymlinks=options.mfsymlinks,
        symlinks=options.symlinks,
        server_inode_numbers=options.serverino,
        read_only=options.read_only,
        cache=options.cache,
        close_timeout=options.closetimeo,
        prefetch=options.prefetch,
        max_read=options.rsize,
        max_write=options.wsize,
    )


class FuseOption(str):
    """An option for libfuse.

    pyfuse3 encodes options as US-ASCII, where a share's name may be in any script; libfuse and the
    kernel take bytes. So this text is always encoded as a file name is.
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes that argv would hold."""
        return os.fsencode(str(self))


def fuse_options(plan: Plan) -> set[str]:
    """The options for libfuse, each escaped as fuse_opt_parse(3) wants it."""
    options = plan.options
    source = plan.source.replace("\\", "\\\\").replace(",", "\\,")
    chosen = {f"fsname={source}", f"subtype={SUBTYPE}"}
    chosen.add("suid" if options.insecure_suid else "nosuid")
    chosen.add("dev" if options.insecure_dev else "nodev")
    chosen.add("ro" if options.read_only else "rw")
    if options.noexec:
        chosen.add("noexec")
    if options.allow_other or options.allow_root:
        chosen.add("allow_other" if options.allow_other else "allow_root")
        chosen.add("default_permissions")
    return {FuseOption(option) for option in chosen}


def check_may_share(options: MountOptions, user: int, config: str = FUSE_CONFIG) -> None:
    """Only root lets other users in, unless the machine's owner allows it to everyone.

    `user` is who mounts. Raises `MountFailure`.
    """
    if user == 0 or not (options.allow_other or options.allow_root):
        return
    try:
        with open(config, encoding="utf-8", errors="replace") as file:
            allowed = any(line.split("#", 1)[0].strip() == "user_allow_other" for line in file)
    except OSError:
        allowed = False
    if not allowed:
        name = "allow_other" if options.allow_other else "allow_root"
        raise MountFailure(
            f"{name} is for root alone, unless {config} has a line user_allow_other: "
            "leave the option out, or add the line",
            ExitCode.USAGE,
        )
