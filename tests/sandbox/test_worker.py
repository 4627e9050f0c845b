import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench import ENDLESS, GOOD, QUICK, TOY, deciding, descendants, zygotes

from kvolve import KvolveError
from sandbox.isolation import bwrap, data_folders
from sandbox.task import TaskRef
from sandbox.worker import Worker

HIDDEN = (
    *("/database", "/evolve", "/runs", "/.git", "/pyproject.toml"),
    *("/evaluators/texts/README.md", "/evaluators/recordings/small"),
)


@pytest.fixture
def worker():
    made = []

    def make(task=TOY, limits=QUICK, unsafe=False):
        made.append(Worker(task, limits, unsafe))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_decisions_are_judged_outside_the_wall(worker):
    value = worker().run(GOOD, "search").value
    assert value == {"sum": 3.0, "rounds": 1, "worker": os.getpid()}


def test_second_round_gets_what_the_first_returned(worker):
    assert worker().run(GOOD, "probe").value["sum"] == 6
    assert worker().run(GOOD, "probe").value["rounds"] == 2


def test_outcome_tells_wall_and_cpu_time(worker):
    outcome = worker().run(GOOD, "search")
    assert 0 < outcome.cpu_s < outcome.wall_s < 2


def test_failure_kind_of_the_judge_is_the_label(worker):
    outcome = worker().run("def decide(carried): return {}", "search")
    assert (outcome.failure, outcome.message) == ("interface", "decide must return an array named 'answer'")


def test_failure_kind_of_the_candidate_side_is_the_label(worker):
    outcome = worker().run("class E(Exception): failure_kind = 'over_budget'\nraise E('too much')", "search")
    assert (outcome.failure, outcome.message) == ("over_budget", "too much")


def test_bug_in_the_judge_costs_one_candidate_its_score_and_keeps_its_traceback(worker):
    one = worker()
    outcome = one.run("def decide(carried): return {'answer': np.ones(1), 'bug': np.ones(1)}", "search")
    assert outcome.failure == "sandbox"
    assert "KeyError: 'a bug in the judge'" in outcome.message
    assert one.run(GOOD, "search").value["sum"] == 3


def test_candidate_may_ask_the_judge(worker):
    source = """
def decide(carried):
    asked = np.arange(200_000)
    for _ in range(3):
        asked = ask("double", {"number": asked})["doubled"]
    return {"answer": asked[-1:]}
"""
    assert worker().run(source, "search").value["sum"] == 8 * 199_999


def test_bug_in_the_actor_surfaces_with_its_traceback(worker):
    broken = dataclasses.replace(TOY, actor="toy_problem:broken_actor")
    with pytest.raises(RuntimeError, match="a bug in the actor"):
        worker(broken).run(GOOD, "search")


def test_readable_path_that_is_missing_is_named(worker):
    with pytest.raises(KvolveError, match="/no/such/recording does not exist"):
        worker(dataclasses.replace(TOY, readable=("/no/such/recording",)))


def test_unknown_stage_is_refused(worker):
    with pytest.raises(ValueError, match="this task has probe, search"):
        worker().run(GOOD, "search2")


def test_killed_zygote_is_replaced_and_its_job_done(worker):
    one = worker()
    one.run(GOOD, "search")
    for pid in zygotes():
        os.kill(pid, signal.SIGKILL)
    assert one.run(GOOD, "search").value["sum"] == 3


def test_zygote_that_hangs_is_replaced_and_its_job_done(worker):
    one = worker(limits=dataclasses.replace(QUICK, wall_s=0.2, grace_s=0.2))
    one.run(GOOD, "search")
    os.kill(descendants(zygotes()[0])[-1], signal.SIGSTOP)
    assert one.run(GOOD, "search").value["sum"] == 3


def test_data_beside_code_stays_outside(tmp_path):
    for folder in ("package/inner", "package/recordings", "package/inner/texts"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for package in ("package", "package/inner"):
        (tmp_path / package / "__init__.py").touch()
    found = data_folders(str(tmp_path / "package"))
    assert sorted(found) == [str(tmp_path / f"package/{name}") for name in ("inner/texts", "recordings")]


def test_archive_runs_and_history_stay_outside_the_wall(worker):
    project = Path(__file__).parents[2]
    found = deciding(f"sum(os.path.exists({str(project)!r} + name) for name in {HIDDEN!r})", "import os")
    assert worker().run(found, "search").value["sum"] == 0


def test_torch_computes_under_the_filter(worker):
    torch = dataclasses.replace(TOY, actor="toy_problem:torch_actor")
    source = """
import torch
def decide(carried):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 64, generator=generator)
    y = torch.linalg.qr(x)[0] @ x.softmax(0).sort().values.topk(3).values
    z = torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None])
    return {"answer": (z[0].isfinite() & y.isfinite().all()).numpy()}
"""
    outcome = worker(torch).run(source, "search")
    assert outcome.failure is None, outcome.message
    assert outcome.value["sum"] == 64 * 64


def test_torch_allocation_that_fails_is_memory(worker):
    torch = dataclasses.replace(TOY, actor="toy_problem:torch_actor")
    assert worker(torch).run("import torch\ntorch.empty(1 << 40)", "search").failure == "memory"


def test_unsafe_worker_still_limits_time(worker):
    one = worker(unsafe=True)
    assert one.run(ENDLESS, "search").failure == "timeout"
    assert one.run(GOOD, "search").value["sum"] == 3


def test_refused_namespaces_are_a_clear_error():
    # A wall inside a wall that forbids further user namespaces is refused for real.
    script = """
from bench import GOOD, QUICK, TOY
from kvolve import KvolveError
from sandbox.worker import Worker
try: Worker(TOY, QUICK).run(GOOD, "search")
except KvolveError as error: print(error)
"""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    wall = [bwrap(), "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--dev-bind", "/", "/"]
    said = subprocess.run(
        [*wall, sys.executable, "-c", script], capture_output=True, text=True, check=False, env=path
    )
    assert "cannot isolate candidates here" in said.stdout, said.stderr
    assert "--unsafe-sandbox" in said.stdout


def test_sandbox_works_for_an_ordinary_user():
    # A user namespace without capabilities: nothing in it is left of root.
    script = """
from bench import GOOD, QUICK, TOY
from sandbox.worker import Worker
assert "CapEff:\t0000000000000000" in open("/proc/self/status").read()
print(Worker(TOY, QUICK).run(GOOD, "search").value["sum"])
"""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    wall = [bwrap(), "--unshare-user", "--uid", "1000", "--cap-drop", "ALL", "--dev-bind", "/", "/"]
    said = subprocess.run(
        [*wall, sys.executable, "-c", script], capture_output=True, text=True, check=False, env=path
    )
    assert said.stdout == "3.0\n", said.stderr


def test_driver_side_imports_no_heavy_package():
    script = "import sys; import sandbox.ray_pool; print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_task_survives_packing():
    task = TaskRef("a:b", "c:d", {"k": "v"}, ("s", "h"), ("/r",), ("/v",))
    assert TaskRef.unpack(task.pack()) == task
