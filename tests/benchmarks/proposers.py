"""Measures the proposers: `proposers.py [slots|driver|prompts|faults ...]`, by default all of them.

slots    a model and evaluations of 500 ms each on two slots: how much of the slots' time is used
driver   what a call costs the driver, with a model that answers at once
prompts  how long prompts are after 100 and after 1,000 candidates
faults   a real run of 200 in which every tenth reply is of no use

The model is a real HTTP server in a process of its own; loop, cascade, archive (on disk) and proposer are the
real ones. Evaluations are waited for in `slots`, made up in `driver` and `prompts`, and real in `faults`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Process, Queue
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from openai import AsyncOpenAI

from database.archive import Archive
from database.connection import archive_url
from database.records import Step
from evolve.cascade import Cascade
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.settings import LLM, Model
from evolve.llm.transport import Transport
from evolve.loop import Loop
from evolve.proposer import Draft, Request
from evolve.proposers import objections_of
from evolve.run import create_archive
from evolve.settings import Settings, make_settings
from tests.benchmarks.loop_overhead import INPUTS, PROBLEM, Slots
from tests.llm.policies import POLICY
from tests.llm.server import Behaviour, Exchange, Server, breaks_off, hangs_up, refuses, says, sends

SLOW_S = 0.5
SEEDS = len(PROBLEM.seeds())
FAULTS = {  # by name: what the server does
    "429": refuses(429, Retry_After="1"),
    "500": refuses(500),
    "disconnected": breaks_off,
    "hung up": hangs_up,
    "malformed JSON": sends(b'{"choices": [{"mess'),
    "refusal": says("I'm sorry, but I can't help with that."),
    "truncated": says("```python\nclass Policy:\n    def select(self"),
    "wrong function": says("```python\ndef choose(x):\n    return x\n```"),
    "empty choices": sends(b'{"choices": []}'),
    "forbidden": says("```python\nimport os\n\n\nclass Policy:\n    pass\n```"),
}
FAULTY_WORDS = (
    "I'm sorry",
    "```python\nclass Policy:\n    def select(self",
    "```python\ndef choose",
    "```python\nimport os",
)


def answers(exchange: Exchange) -> None:
    """A new policy to every question, plans and lessons to those who want them."""
    asked = exchange.body["messages"][-1]["content"]
    drawn = int(hashlib.sha256(os.urandom(8)).hexdigest(), 16)
    if "Write no code yet" in asked:
        text = "".join(f"{n}. Keep {drawn % (n + 50)} tokens, {'abcd'[n - 1] * 6}.\n" for n in range(1, 5))
    elif "at most four lessons" in asked:
        text = "\n".join(f"- {'Sample what is not kept, and keep what is heavy. ' * 2}" for _ in range(4))
    elif "## The program to simplify" in asked:
        text = "```python\nimport torch\n\n\nclass Policy:\n    pass\n```"
    else:
        text = f"I try.\n```python{POLICY.format(first=drawn % 10**9)}```"
    says(text)(exchange)


def slowly(exchange: Exchange) -> None:
    """Answers after half a second."""
    time.sleep(SLOW_S)
    answers(exchange)


def faulty(exchange: Exchange) -> None:
    """Every tenth reply has the next one of the faults."""
    number = len(exchange.server.requests)
    if number % 10:
        answers(exchange)
    else:
        list(FAULTS.values())[number // 10 % len(FAULTS)](exchange)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """The address of a server in a process of its own."""
    addresses: Queue[str] = Queue()
    process = Process(target=_serve, args=(behaviour, addresses), daemon=True)
    process.start()
    try:
        yield addresses.get()
    finally:
        process.terminate()


def _serve(behaviour: Behaviour, addresses: "Queue[str]") -> None:
    with Server() as server:
        server.usual = behaviour
        addresses.put(server.url)
        time.sleep(1e6)


async def run(settings: Settings, url: str, folder: Path, pool: Slots) -> Archive:
    """A run with a model at `url`; returns its archive."""
    folder.mkdir()
    archive = create_archive(settings, PROBLEM, INPUTS, folder)
    models = (Model.model_validate({"model": "stub", "base_url": url, "concurrency": 16}),)
    proposer = LLMProposer(
        archive,
        answers=Transport(models, lambda _: None),
        prompts=Prompts(PROBLEM.interface),
        models=models,
        settings=LLM(),
        objections=partial(objections_of, language=PROBLEM.language),
    )
    try:
        await Loop(
            settings, Cascade(PROBLEM, INPUTS, archive, pool), archive, proposer, lambda *_: None
        ).run()
    finally:
        await proposer.close()
    return archive


def settings_of(evaluations: int) -> Settings:
    return make_settings({"problem": PROBLEM.name, "max_evaluations": SEEDS + evaluations})


def measure_slots(folder: Path) -> None:
    pool = Slots(2, SLOW_S)
    with serving(slowly) as url:
        asyncio.run(run(settings_of(120), url, folder, pool)).close()
    intervals = pool.intervals[SEEDS:]  # seeds ask nobody
    used = sum(until - since for since, until in intervals)
    span = max(until for _, until in intervals) - min(since for since, _ in intervals)
    print(
        f"slot time used, model and evaluations of {1000 * SLOW_S:.0f} ms, 2 slots   {used / (2 * span):8.1%}"
    )


class Canned:
    """Proposes what another run has proposed, and asks nobody: what is left is the loop's."""

    def __init__(self, recorded: Archive) -> None:
        self.drafts = {
            step.number: Draft(step.operator, (step.parent,), recorded.candidate(step.hash).source)
            for step in recorded.steps()
            if step.parent
        }

    async def propose(self, request: Request, random: object) -> Draft:
        return self.drafts[request.number]


async def run_alone(settings: Settings, proposer: Canned, folder: Path) -> None:
    folder.mkdir()
    archive = create_archive(settings, PROBLEM, INPUTS, folder)
    cascade = Cascade(PROBLEM, INPUTS, archive, Slots(0))
    await Loop(settings, cascade, archive, proposer, lambda *_: None).run()
    archive.close()


def measure_driver(folder: Path) -> None:
    settings = settings_of(500)
    with serving(answers) as url:
        asyncio.run(run(settings_of(20), url, folder.with_name("warm"), Slots(0))).close()
        before = cpu_s()
        archive = asyncio.run(run(settings, url, folder, Slots(0)))
        whole = cpu_s() - before
        client = asyncio.run(client_alone(url))
    canned = Canned(archive)
    before = cpu_s()
    asyncio.run(run_alone(settings, canned, folder.with_name("alone")))
    loop, calls = cpu_s() - before, archive.cost().calls
    print(f"driver CPU per call                                     {1000 * (whole - loop) / calls:8.2f} ms")
    print(f"  of it, the openai client alone                        {1000 * client:8.2f} ms")
    print(f"  and of the loop, per proposal                         {1000 * loop / 500:8.2f} ms")
    print(f"  calls for 500 proposals                               {calls:8}")
    archive.close()


async def client_alone(url: str, calls: int = 300) -> float:
    """CPU seconds of the bare client for one call with a prompt of the usual length."""
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    asked = [{"role": "user", "content": "x" * 6_000}]
    before = cpu_s()
    for _ in range(calls):
        await client.chat.completions.with_raw_response.create(model="stub", messages=asked, max_tokens=100)
    await client.close()
    return (cpu_s() - before) / calls


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_prompts(folder: Path) -> None:
    with serving(answers) as url:
        archive = asyncio.run(run(settings_of(1050), url, folder, Slots(0)))
    lengths = {}
    for around in (100, 1000):
        numbers = range(around - 50, around + 50)
        first = [calls[0] for number in numbers if (calls := archive.calls(number))]
        lengths[around] = [len(call.prompt) for call in first if call.operator in ("rewrite", "diff")]
        print(
            f"prompt near candidate {around:>5}, rewrite and diff, median    "
            f"{statistics.median(lengths[around]):8,.0f} characters"
        )
    print(f"interface                                               {len(PROBLEM.interface):8,} characters")
    ratio = statistics.median(lengths[1000]) / statistics.median(lengths[100])
    print(f"  the later over the earlier                            {ratio:8.3f}")
    archive.close()


def measure_faults(folder: Path) -> None:
    folder.mkdir()
    with serving(faulty) as url:
        environment = os.environ | {"KVOLVE_LLM_BASE_URL": url, "KVOLVE_LLM_MODEL": "stub"}
        (folder / "faults.toml").write_text(
            'problem = "token_selection"\nrecording = "small"\nproposer = "llm"\n[llm]\ntries = 0\n'
        )
        began = time.perf_counter()
        command = [
            str(Path(sys.executable).parent / "kvolve"),
            "run",
            "faults.toml",
            "--max-evaluations",
            "200",
        ]
        subprocess.run([*command, "--run-dir", "run"], cwd=folder, env=environment, check=True, stdout=-3)
        took = time.perf_counter() - began
    archive = Archive.open(archive_url(folder / "run" / "archive.db"), read_only=True)
    steps = {step.number: step for step in archive.latest_steps(1000)}
    faults = Counter(
        archive.candidate(step.hash).proposal.detail.partition(":")[0][:48]
        for step in steps.values()
        if archive.candidate(step.hash).proposal.detail
    )
    calls = [call for number in range(SEEDS, 200) for call in archive.calls(number)]
    came = [call for call in calls if call.operator != "explain" and is_faulty(call.reply)]
    labelled = [
        call for call in came if any(has_failure(archive, steps.get(call.number + n)) for n in (0, 1))
    ]
    print(f"proposals of 200 that are evaluated                     {archive.completed():8}")
    print(f"  beyond the limit, pending                             {len(archive.pending()):8}")
    print(f"  calls in the ledger                                   {archive.cost().calls:8}")
    print(f"  faulty replies that came                              {len(came):8}")
    print(f"  of these, with a failure as the label                 {len(labelled):8}")
    print(f"  failures by label: {json.dumps(archive.failures())}")
    print(f"  what was said of replies: {json.dumps(dict(faults))}")
    print(f"  seconds                                               {took:8.1f}")
    archive.close()


def is_faulty(reply: str) -> bool:
    return not reply or reply.startswith(FAULTY_WORDS)


def has_failure(archive: Archive, step: Step | None) -> bool:
    """Whether a proposal ended as a failure; the two of a plan share their calls."""
    found = archive.find_source(step.hash) if step else None
    return found is not None and found.failure is not None


MEASURES = {
    "slots": measure_slots,
    "driver": measure_driver,
    "prompts": measure_prompts,
    "faults": measure_faults,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the proposers.")
    parser.add_argument("what", nargs="*", metavar="|".join(MEASURES))
    asked = parser.parse_args().what or list(MEASURES)
    if unknown := set(asked) - MEASURES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; known: {', '.join(MEASURES)}")
    with TemporaryDirectory() as folder:
        for name in asked:
            MEASURES[name](Path(folder) / name)


if __name__ == "__main__":
    main()
