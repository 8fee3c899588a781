"""A table of results, each beside the bound that it is to keep."""

from __future__ import annotations

import statistics


class Table:
    """Rows of results, and whether each keeps its promise."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, bool]] = []

    def ratio(self, what: str, ours: list[float], theirs: list[float], floor: float) -> None:
        """Seconds of ours and theirs for the same work; the ratio is of speeds."""
        mine, yours = statistics.median(ours), statistics.median(theirs)
        ratio = yours / mine
        text = f"{mine:.2f} s; smbclient {yours:.2f} s; {ratio:.2f} ×"
        self._rows.append((what, text, f"≥ {floor} ×", ratio >= floor))

    def seconds(self, what: str, values: list[float], ceiling: float) -> None:
        """Seconds that are to stay below `ceiling`."""
        median = statistics.median(values)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        self._rows.append((what, f"{median:.2f} s ({spread})", f"< {ceiling:g} s", median < ceiling))

    def count(self, what: str, value: int, ceiling: int) -> None:
        """A count that is to stay at or below `ceiling`."""
        self._rows.append((what, str(value), f"≤ {ceiling}", value <= ceiling))

    def each(self, what: str, values: list[float], ceiling: float) -> None:
        """Values, each of which is to stay at or below `ceiling`."""
        text = " → ".join(f"{value:.3g}" for value in values)
        self._rows.append((what, text, f"≤ {ceiling:g}", max(values) <= ceiling))

    def mebibytes(self, what: str, value: float, ceiling: float) -> None:
        """Memory that is to stay at or below `ceiling`."""
        self._rows.append((what, f"{value:.0f} MiB", f"≤ {ceiling:g} MiB", value <= ceiling))

    def growth(self, what: str, costs: list[float], unit: str, factor: float, slack: float) -> None:
        """What one file costs, at growing numbers of files: the last is to stay within `factor` times the
        least of those before, and `slack`, which is what cannot be told from nothing."""
        text = " → ".join(f"{cost:.3g}" for cost in costs) + f" {unit}"
        kept = costs[-1] <= factor * min(costs[:-1], default=costs[-1]) + slack
        self._rows.append((what, text, f"≤ {factor:g} ×", kept))

    def print(self) -> int:
        """Print the rows; 1 if one of them is out of bounds."""
        width = max(len(row[0]) for row in self._rows)
        for what, result, bound, kept in self._rows:
            print(f"{what:<{width}}  {result:<48} {bound:<10} {'kept' if kept else 'BROKEN'}")
        return 0 if all(row[3] for row in self._rows) else 1
