"""The process around a mount: what the service runs on, its log, and where it runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import trio

from engine import connect
from smbmount.allocator import give_freed_memory_back, keep_freed_memory, look_for_garbage_rarely
from smbmount.background import INTERNAL_ERROR, Serve, serve_in_background
from smbmount.failures import ExitCode, MountFailure
from smbmount.fusemount import FuseMount
from smbmount.hiding import forbid_core_dumps
from smbmount.logs import set_up_logging
from smbmount.plan import Plan
from smbmount.service import Backend, Service

logger = logging.getLogger(__name__)


def run_mount(plan: Plan, *, foreground: bool, debug: bool, verbose: bool) -> ExitCode:
    """Mount and serve, here or in a child process. Raises `MountFailure`."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    login = plan.login
    secrets = [secret for secret in (login.password, login.other_password) if secret is not None]
    if foreground:
        set_up_logging(level, secrets, to_stderr=True, to_syslog=False)
        serving(plan)(lambda: None)
        return ExitCode.SUCCESS

    def serve(ready: Callable[[], None]) -> None:
        set_up_logging(level, secrets, to_stderr=debug, to_syslog=True)
        serving(plan)(ready)

    return serve_in_background(serve, keep_stderr=debug)


def serving(plan: Plan) -> Serve:
    """The real mount, as something that can be run here or in a child."""

    def serve(ready: Callable[[], None]) -> None:
        forbid_core_dumps()
        keep_freed_memory()
        look_for_garbage_rarely()
        give_freed_memory_back()
        service = Service(plan, ready, Backend(connect, FuseMount, os._exit))
        try:
            trio.run(service.run)
        except MountFailure:
            raise
        except Exception:
            logger.exception("internal error")
            raise MountFailure(INTERNAL_ERROR, ExitCode.INTERNAL) from None

    return serve
