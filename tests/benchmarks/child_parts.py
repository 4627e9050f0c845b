"""How long the parts of a candidate's process take: run by `sandbox_speed.py` in the place of a zygote.

It stands behind the same wall, has loaded what a zygote loads and forks with a zygote's code, so that a fork
costs here what it costs there. What the forked process does is cut short at one place after the other.
"""

import gc
import os
import socket
import time
from typing import Any, NoReturn

from sandbox import child, wire, zygote
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits, load


def empty(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    os._exit(0)


def isolated(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    child.isolate(channel)
    os._exit(0)


def limited(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    child.isolate(channel)
    child.restrict(limits, None)
    os._exit(0)


def filtered(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    child.isolate(channel)
    child.restrict(limits, seccomp)
    os._exit(0)


def mute(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    child.isolate(channel)
    child.restrict(limits, seccomp)
    source = (wire.read_frame(child.CHANNEL, child.MAX_SOURCE) or b"").decode()
    actor.act(source, lambda question, arrays: {})
    os._exit(0)


RUNS = {
    "empty": empty,
    "isolated": isolated,
    "limited": limited,
    "filtered": filtered,
    "mute": mute,
    "whole": child.run,
}


def main() -> None:
    """Answers each message on the control socket, after the settings, with the times [ms] of each of RUNS."""
    zygote.settle()
    settings = wire.unpack(wire.read_frame(zygote.CONTROL, zygote.MAX_CONTROL) or b"")
    actor, limits = load(settings["actor"])(), Limits(**settings["limits"])
    forked = zygote.Zygote(actor, limits, Filter(settings["seccomp"]))
    gc.collect()
    gc.freeze()
    while wire.read_frame(zygote.CONTROL, zygote.MAX_CONTROL) is not None:
        took: dict[str, list[float]] = {name: [] for name in RUNS}
        for _ in range(settings["rounds"]):
            for name, run in RUNS.items():
                took[name].append(1000 * play(forked, run, settings["source"]))
        wire.write_frame(zygote.CONTROL, wire.pack(took))


def play(forked: zygote.Zygote, run: Any, source: str) -> float:
    """Seconds that a zygote spends on one process. The answer lies ready: nobody is waited for."""
    ours, theirs = socket.socketpair()
    with ours:
        wire.write_frame(ours.fileno(), source.encode())
        wire.write_frame(ours.fileno(), wire.encode_arrays({}, 1 << 10))
        channel = theirs.detach()
        child.run = run  # what Zygote.play calls after its fork
        begin = time.perf_counter()
        reply = forked.play(channel)
        took_s = time.perf_counter() - begin
        if "exit code 0 " not in reply["message"]:
            raise RuntimeError(reply["message"])
    return took_s
