"""What full isolation costs: evaluations per second, CPU time, and where the time of one evaluation goes.

    python tests/benchmarks/sandbox_speed.py [--evaluations 10200] [--rounds 300]

A trivial candidate of the toy problem of the sandbox's tests: one process, which asks one question and
answers three numbers. The zygote has imported numpy, or torch. Times are medians; beside them, as what is
left of other load on the machine, stands the 10th percentile.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))

from bench import GOOD, TOY, children, local
from pool_processes import KINDS, by_kind, cpu_s, resident_bytes
from toy_problem import ToyJudge

from sandbox import child, isolation, seccomp, wire
from sandbox.channel import Channel
from sandbox.pool import LocalPool, QueuePool
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker, ZygoteProcess

WORKERS = 2
AHEAD = 8  # evaluations that are submitted and not done
BLOCK = 20  # evaluations that are timed in one way before those that are timed in the next way
SOME = 100  # evaluations over which a rate is taken
TASKS = {"numpy": TOY, "torch": replace(TOY, actor="toy_problem:torch_actor")}
LIMITS = Limits()
PARTS_BOOT = "import sys; sys.path[:] = {path!r}; from child_parts import main; main()"
PARTS = {  # what is in each; of a child's parts, also what its memory and its end cost more by them
    "fork": "fork, a child that ends at once, its reaping, the kill of what it may have left",
    "limits: descriptors": "child.isolate",
    "limits: rlimits": "child.restrict without a filter",
    "limits: seccomp": "Filter.install, and the filter in every later call",
    "candidate": "actor.act: compile, run, decide",
    "wire: child": "question and end encoded and written, answer read and decoded",
    "wire: worker": "question and end read and decoded, answer encoded and written",
    "scoring": "the judge's methods, and the packing of its value",
    "pipes": "the job and its socket to the zygote, its reply, three processes that wake each other",
    "queue": "the pool's queue, the job to the worker and its outcome back",
    "one evaluation": "submitted to a pool of one worker until its outcome is there",
}


@dataclass(frozen=True)
class Flow:
    """A stretch of evaluations: when each was done [s], and what it took of the processes of each kind."""

    done_s: list[float]
    cpu_ms: dict[str, float]  # per evaluation
    resident: tuple[Counter[str], Counter[str]]  # bytes after SOME evaluations, and at the end
    descriptors: tuple[int, int]  # open in driver and workers, at the same two points

    def rates(self) -> list[float]:
        """Evaluations per second in every SOME of them."""
        ends = [0.0, *self.done_s[SOME - 1 :: SOME]]
        return [SOME / (end - begin) for begin, end in pairwise(ends)]


async def flow(task: TaskRef, evaluations: int) -> Flow:
    pool = LocalPool(task, WORKERS, LIMITS)
    await pool.start()
    await asyncio.gather(*(pool.submit(GOOD, "search") for _ in range(4 * WORKERS)))  # all are up
    processes = by_kind(children)
    done_s: list[float] = []
    points: list[tuple[Counter[str], int]] = []
    turns = iter(range(evaluations))

    async def keep_one_ahead() -> None:
        for _ in turns:
            outcome = await pool.submit(GOOD, "search")
            if outcome.failure:
                raise RuntimeError(f"an evaluation failed: {outcome}")
            done_s.append(time.perf_counter() - begin)
            if len(done_s) in (SOME, evaluations):
                points.append((resident(processes), descriptors(processes)))

    before = cpu_by_kind(processes)
    begin = time.perf_counter()
    await asyncio.gather(*(keep_one_ahead() for _ in range(AHEAD)))
    used = cpu_by_kind(processes)
    if by_kind(children) != processes:
        raise RuntimeError("a worker or a zygote has been replaced")
    await pool.close()
    cpu_ms = {kind: 1000 * (used[kind] - before[kind]) / evaluations for kind in used}
    (first, few), (last, many) = points
    return Flow(done_s, cpu_ms, (first, last), (few, many))


def cpu_by_kind(processes: dict[str, list[int]]) -> dict[str, float]:
    """Seconds of CPU time so far; those of a candidate's processes are what the zygotes have waited for."""
    used = {kind: sum(cpu_s(pid)[0] for pid in pids) for kind, pids in processes.items()}
    children_s = sum(cpu_s(pid)[1] for pid in processes["zygote"])
    return {"child": children_s, **used, "driver": time.process_time()}


def resident(processes: dict[str, list[int]]) -> Counter[str]:
    """Resident bytes by kind of process."""
    pids = processes | {"driver": [os.getpid()]}
    return Counter({kind: sum(map(resident_bytes, pids[kind])) for kind in (*KINDS, "driver")})


def descriptors(processes: dict[str, list[int]]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *processes["worker"]))


def times(once: Callable[[], object], rounds: int = BLOCK) -> list[float]:
    """Milliseconds of each call."""
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        once()
        took.append(1000 * (time.perf_counter() - begin))
    return took


def breakdown(task: TaskRef, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way to do less than one evaluation, one at a time; "pool" is the whole of it."""
    took: dict[str, list[float]] = defaultdict(list)
    with (
        ChildParts(task) as parts,
        closing(Worker(task, LIMITS)) as worker,
        closing(local(task, 1, LIMITS)) as pool,
    ):
        for _ in range(0, rounds, BLOCK):  # in turns: what else the machine does falls on all of them
            for name, some in parts.times().items():
                took[name] += some
            took["hear"] += [hear() for _ in range(BLOCK)]
            took["score"] += times(score)
            took["worker"] += times(lambda: worker.run(GOOD, "search"))
            took["pool"] += pool.do(pool_times(pool.pool))
    return took


def differences(at: dict[str, float]) -> dict[str, float]:
    """Milliseconds of each part of one evaluation; they add up to the last one."""
    parts = {
        "fork": at["empty"],
        "limits: descriptors": at["isolated"] - at["empty"],
        "limits: rlimits": at["limited"] - at["isolated"],
        "limits: seccomp": at["filtered"] - at["limited"],
        "candidate": at["mute"] - at["filtered"],
        "wire: child": at["whole"] - at["mute"],
        "wire: worker": at["hear"],
        "scoring": at["score"],
    }
    parts["pipes"] = at["worker"] - sum(parts.values())
    return parts | {"queue": at["pool"] - at["worker"], "one evaluation": at["pool"]}


class ChildParts:
    """`child_parts`, started behind the wall of a zygote."""

    def __init__(self, task: TaskRef) -> None:
        boot = PARTS_BOOT.format(path=isolation.search_path())
        python = [sys.executable, "-s", "-P", "-B", "-c", boot]
        command = isolation.wall(python, task.readable, ["toy_problem", "child_parts"], LIMITS.file_bytes)
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), env=isolation.ENVIRONMENT)
        asked = {"actor": task.actor, "limits": asdict(LIMITS), "seccomp": seccomp.compile_filter()}
        self.tell(asked | {"source": GOOD, "rounds": BLOCK})

    def __enter__(self) -> "ChildParts":
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self.process.wait()

    def tell(self, message: dict[str, object]) -> None:
        wire.write_frame(self.control.fileno(), wire.pack(message))

    def times(self) -> dict[str, list[float]]:
        """Milliseconds of BLOCK processes that end after each part."""
        self.tell({})
        message = wire.read_frame(self.control.fileno(), 1 << 20)
        if message is None:
            raise RuntimeError("the process that measures the parts of a child ended without a result")
        took: dict[str, list[float]] = wire.unpack(message)
        return took


async def pool_times(pool: QueuePool) -> list[float]:
    """Milliseconds of BLOCK evaluations on a pool that has nothing else to do."""
    took = []
    for _ in range(BLOCK):
        begin = time.perf_counter()
        await pool.submit(GOOD, "search")
        took.append(1000 * (time.perf_counter() - begin))
    return took


def score() -> None:
    """All that the judge does in one evaluation."""
    examination = ToyJudge().examine("search", GOOD)
    examination.another_process()
    examination.answer("carried", {})
    examination.take(ANSWERED)
    examination.another_process()
    wire.pack(examination.value())


ANSWERED = wire.decode_arrays(b"\x81\xa6answer\x93\xa7float64\x91\x03\xc4\x18" + bytes(24))  # three numbers


def hear() -> float:
    """Milliseconds in which a worker reads a question, sends an answer, and reads what is said at the end."""
    channel = Channel(LIMITS, lambda question, arrays: {})
    said = channel.theirs.fileno()
    wire.write_frame(said, child.QUESTION, b"\x07", b"carried", wire.encode_arrays({}, 1 << 10))
    begin = time.perf_counter()
    channel.read()
    took_s = time.perf_counter() - begin
    wire.write_frame(said, child.END, wire.encode_arrays(ANSWERED, 1 << 10))
    begin = time.perf_counter()
    channel.read()
    took_s += time.perf_counter() - begin
    channel.close()
    if channel.end is None:
        raise RuntimeError(f"the worker has not understood its child: {channel.failure}")
    return 1000 * took_s


def starts(rounds: int) -> dict[str, float]:
    """Milliseconds until a process behind the wall is there."""

    def behind_wall(*command: str) -> None:
        line = isolation.wall(command, (), ["toy_problem"], LIMITS.file_bytes)
        subprocess.run(line, env=isolation.ENVIRONMENT, stdin=subprocess.DEVNULL, check=True)

    def ready(task: TaskRef) -> None:
        with closing(ZygoteProcess(task, LIMITS, unsafe=False)) as zygote:
            zygote._ready()

    measured = {
        "bubblewrap, /bin/true": lambda: behind_wall("/bin/true"),
        "bubblewrap, Python": lambda: behind_wall(sys.executable, "-s", "-P", "-B", "-c", "pass"),
        "zygote with numpy until ready": lambda: ready(TASKS["numpy"]),
        "zygote with torch until ready": lambda: ready(TASKS["torch"]),
    }
    return {name: statistics.median(times(once, rounds)) for name, once in measured.items()}


def print_rates(flows: dict[str, Flow]) -> None:
    print(f"\n{WORKERS} workers, {AHEAD} evaluations ahead" + "".join(f"{name:>12}" for name in flows))
    rates = {name: flow.rates() for name, flow in flows.items()}
    rows: dict[str, Callable[[str], float]] = {
        "evaluations": lambda name: len(flows[name].done_s),
        "per second": lambda name: len(flows[name].done_s) / flows[name].done_s[-1],
        f"per second, first {SOME}": lambda name: rates[name][0],
        f"per second, last {SOME}": lambda name: rates[name][-1],
        f"per second, slowest {SOME}": lambda name: min(rates[name]),
    }
    for title, value in rows.items():
        print(f"{title:<32}" + "".join(f"{value(name):12,.0f}" for name in flows))
    print("CPU time per evaluation, ms")
    for kind in ("child", *KINDS, "driver"):
        print(f"  {kind:<30}" + "".join(f"{flow.cpu_ms[kind]:12.2f}" for flow in flows.values()))
    print(f"  {'all':<30}" + "".join(f"{sum(flow.cpu_ms.values()):12.2f}" for flow in flows.values()))


def print_memory(flows: dict[str, Flow]) -> None:
    for name, flow in flows.items():
        count = len(flow.done_s)
        print(f"\nresident memory, {name:<15}  after {SOME:>6,}  after {count:>6,}   MiB")
        for kind in (*KINDS, "driver"):
            first, last = (point[kind] / 2**20 for point in flow.resident)
            print(f"  {kind:<30}{first:14.1f}{last:14.1f}")
        print(f"  {'open descriptors':<30}{flow.descriptors[0]:14}{flow.descriptors[1]:14}")


def print_parts(took: dict[str, dict[str, list[float]]]) -> None:
    columns = {}
    for name, ways in took.items():
        tenths = {way: statistics.quantiles(some, n=10) for way, some in ways.items()}
        columns[f"{name}, median"] = differences({way: tenth[4] for way, tenth in tenths.items()})
        columns[f"{name}, 10%"] = differences({way: tenth[0] for way, tenth in tenths.items()})
    print(f"\n{'one at a time, ms':<20}" + "".join(f"{title:>15}" for title in columns))
    for part, content in PARTS.items():
        print(
            f"{part:<20}" + "".join(f"{column[part]:15.3f}" for column in columns.values()) + f"   {content}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluations", type=int, default=10_200, help=f"with numpy; {2 * SOME} or more")
    parser.add_argument("--rounds", type=int, default=300, help="evaluations in each part of the breakdown")
    asked = parser.parse_args()
    if asked.evaluations < 2 * SOME:
        parser.error(f"--evaluations {asked.evaluations}: the first and the last {SOME} are compared")
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    flows = {
        name: asyncio.run(flow(task, asked.evaluations if name == "numpy" else 10 * SOME))
        for name, task in TASKS.items()
    }
    print_rates(flows)
    print_memory(flows)

    print_parts({name: breakdown(task, asked.rounds) for name, task in TASKS.items()})

    print(f"\n{'start behind the wall':<38}{'ms':>6}")
    for name, took in starts(rounds=10).items():
        print(f"{name:<38}{took:6.0f}")


if __name__ == "__main__":
    main()
