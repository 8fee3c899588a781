"""What `smbmountctl status` shows to a person, made of what a daemon says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")

_SILENT: Final = 2.0
"""Seconds without a sign of life, with an answer due, that are worth a word."""

Row = tuple[str, str]


def size_text(size: int) -> str:
    """A number of bytes, short."""
    scaled, unit = float(size), 0
    while scaled >= 1024 and unit < len(_UNITS) - 1:
        scaled /= 1024
        unit += 1
    return f"{size} bytes" if not unit else f"{scaled:.1f} {_UNITS[unit]}"


def status_lines_untrusted(status: Mapping[str, Any]) -> list[str]:
    """The reply to `status`, line by line; raises what comes of reading one that is none."""
    lines = [f"{status['source']} on {status['mountpoint']}, process {status['pid']}"]
    lines += [_line(row) for row in _rows(status)]
    for behind in status["behind_links"]:
        lines += [f"behind a link: {behind['connection']['share']}"]
        lines += [_line(row) for row in _connection_rows(behind)]
    return lines


def _line(row: Row) -> str:
    return f"  {row[0]:13} {row[1]}"


def _rows(status: Mapping[str, Any]) -> Iterator[Row]:
    connection, counts, statistics = status["connection"], status["file_system"], status["statistics"]
    credits, handles = status["credits"], status["handles"]
    yield from _connection_rows(status)
    yield (
        "limits",
        f"{size_text(connection['max_read'])} per read, {size_text(connection['max_write'])} per write",
    )
    yield "sent", size_text(statistics["bytes_sent"])
    yield "received", size_text(statistics["bytes_received"])
    in_flight, most = status["requests_in_flight"], statistics["most_in_flight"]
    yield "in flight", f"{in_flight} requests, at most {most} so far"
    yield "credits", f"{credits['held']} held, {credits['in_use']} in use"
    yield "handles", f"{handles['open']} open on the server, {handles['durable']} of them durable"
    yield "kept", f"{handles['kept_files']} files and {handles['kept_folders']} folders for their next use"
    yield "not written", size_text(counts["dirty_bytes"])
    yield "open files", str(counts["open_files"])
    yield "inodes", str(counts["inodes"])
    yield "round trips", str(statistics["round_trips"])
    trips = sorted(statistics["trips"].items(), key=lambda item: -item[1])
    yield from ((f"  {count}", commands) for commands, count in trips)


def _connection_rows(status: Mapping[str, Any]) -> Iterator[Row]:
    connection = status["connection"]
    yield "connection", _standing(connection)
    yield "protection", connection["summary"]
    yield "server", f"{connection['address']}, {connection['share']}"
    ticket = connection["ticket"]
    if ticket:
        yield "log-on", f"{connection['authentication']}, {ticket['principal']} for {ticket['spn']}"
        yield "ticket until", _time(ticket["end"])
    else:
        yield "log-on", connection["authentication"]
    yield "reconnects", _reconnects(status["reconnects"])
    yield "leases", _leases(status["leases"])


def _standing(connection: Mapping[str, Any]) -> str:
    since = _time(connection["since"])
    silence = float(connection["silent_seconds"])
    match connection["state"]:
        case "connected" if silence >= _SILENT:
            return f"connected since {since}, but silent for {silence:.0f} s although an answer is due"
        case "connected":
            return f"connected since {since}"
        case "reopening":
            return f"connected again after a loss at {since}; files are being opened again"
        case "refused":
            return f"LOST since {since}, and the server refuses us: {connection['obstacle']}"
        case "reconnecting":
            failures = int(connection["failures"])
            tried = f", {failures} attempts failed: {connection['obstacle']}" if failures else ""
            return f"LOST since {since}; trying to get it back{tried}"
        case state:
            raise ValueError(f"no state {state!r} is known")


def _reconnects(reconnects: Mapping[str, Any]) -> str:
    count = int(reconnects["count"])
    if reconnects["last_lost"] is None:
        return str(count)
    return f"{count}, last lost {_time(reconnects['last_lost'])}: {reconnects['reason']}"


def _leases(leases: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{sum(found.values())} {kind}"
        + (f" ({', '.join(f'{count} {state}' for state, count in found.items())})" if found else "")
        for kind, found in leases.items()
    )


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(seconds)))
