"""What the processes of a started local pool use, as the kernel counts it: for the benchmarks of the sandbox.

A pool is a tree: each worker has bubblewrap as its child, which has the zygote; the zygote's children are
gone when no candidate runs.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KINDS = ("worker", "bwrap", "zygote")
FIGURES = {  # of /proc/PID/smaps
    "Rss:": "Rss",
    "Pss:": "Pss",
    "Shared_Clean:": "Shared",
    "Shared_Dirty:": "Shared",
    "Private_Clean:": "Private",
    "Private_Dirty:": "Private",
}


def by_kind(children: Callable[[int], list[int]]) -> dict[str, list[int]]:
    """The process ids of the pool that this process has started, one pool at a time: kind -> ids."""
    found: dict[str, list[int]] = {}
    generation = [os.getpid()]
    for kind in KINDS:
        generation = [child for parent in generation for child in children(parent)]
        found[kind] = generation
    return found


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of CPU time that a process has used, and that its ended children have used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = (int(number) for number in numbers[11:15])
    return (user + system) * TICK_S, (child_user + child_system) * TICK_S


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def mapped_bytes(pid: int, kind_of: Callable[[str], str]) -> dict[str, Counter[str]]:
    """Rss, Pss, Shared and Private of a process in bytes, summed by `kind_of` a mapping's path ("" if none).

    Shared are the pages that another process maps, too; Pss divides each by the number of those that do.
    Raises PermissionError for a zygote unless the caller is root: it lets nobody look into it.
    """
    sums: dict[str, Counter[str]] = {}
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split(maxsplit=5)
        if not first.endswith(":"):  # an address range, and with it the next mapping
            counted = sums.setdefault(kind_of(rest[4] if len(rest) > 4 else ""), Counter())
        elif name := FIGURES.get(first):
            counted[name] += int(rest[0]) * 1024
    return sums
