"""An evaluator gets what the program returns, and says what it is worth; each in a sandbox of its own."""

import pytest

PROGRAM = """
import numpy as np
LIMIT = 3
def place():
    return np.array([[0.1, 0.2]]), (1, 2.5), {"k": [None, True]}
def twice(x, by=2):
    if x < 0:
        raise ValueError("negative")
    return x * by
"""


def test_values_cross_with_their_types(evaluated):
    evaluator = """
        import inspect, numpy as np
        def evaluate(path):
            program = load(path)
            array, pair, table = program.place()
            assert type(array) is np.ndarray and array.shape == (1, 2)
            assert pair == (1, 2.5) and type(pair) is tuple and table == {"k": [None, True]}
            assert str(inspect.signature(program.twice)) == "(x, by=2)"
            assert program.LIMIT == 3 and not hasattr(program, "missing")
            try:
                program.twice(-1)
            except ValueError as error:
                assert str(error) == "negative"
            return {"combined_score": program.twice(4, by=0.25), "other": np.float32(2)}
    """
    outcome = evaluated(PROGRAM, evaluator)
    assert outcome.value["score"] == 1.0, outcome
    assert outcome.value["metrics"] == {"combined_score": 1.0, "other": 2.0}


def test_without_a_combined_score_the_mean_of_the_figures_counts(evaluated):
    evaluator = "def evaluate(path): return {'a': load(path).twice(1), 'b': 1.0, 'note': 'text'}"
    assert evaluated.score(PROGRAM, evaluator) == 1.5


def test_results_in_objects_with_metrics_and_artifacts_are_taken(evaluated):
    evaluator = """
        from openevolve.evaluation_result import EvaluationResult
        def evaluate(path):
            return EvaluationResult(metrics={"combined_score": 0.5}, artifacts={"hint": "try harder"})
    """
    outcome = evaluated(PROGRAM, evaluator)
    assert outcome.value["score"] == 0.5
    assert "hint: try harder" in outcome.value["feedback"]


def test_a_subprocess_of_the_evaluator_calls_the_program_and_pickles_what_it_returns(evaluated):
    evaluator = """
        import pickle, subprocess, sys, tempfile
        SCRIPT = '''
        import pickle, sys, importlib.util
        spec = importlib.util.spec_from_file_location("program", sys.argv[1])
        program = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(program)
        with open(sys.argv[2], "wb") as file:
            pickle.dump(program.place(), file)
        '''
        def evaluate(path):
            import textwrap
            with tempfile.NamedTemporaryFile(suffix=".py", mode="w") as script:
                script.write(textwrap.dedent(SCRIPT))
                script.flush()
                subprocess.run([sys.executable, script.name, path, "out.pickle"], check=True, timeout=30)
            with open("out.pickle", "rb") as file:
                return {"combined_score": pickle.load(file)[1][1]}
    """
    assert evaluated.score(PROGRAM, evaluator) == 2.5


def test_threads_and_forks_of_the_evaluator_call_the_program(evaluated):
    evaluator = """
        from concurrent.futures import ThreadPoolExecutor
        from multiprocessing import get_context
        def evaluate(path):
            program = load(path)
            with ThreadPoolExecutor(4) as threads:
                first = sum(threads.map(program.twice, range(20)))
            with get_context("fork").Pool(2) as processes:
                import sys
                sys.modules["program"] = program
            with get_context("fork").Pool(2) as processes:
                second = sum(processes.map(program.twice, range(20)))
            return {"combined_score": first, "second": second}
    """
    outcome = evaluated(PROGRAM, evaluator)
    assert outcome.value["metrics"] == {"combined_score": 380.0, "second": 380.0}, outcome


def test_a_program_can_be_run_as_a_script(evaluated):
    program = "import sys\nif __name__ == '__main__':\n    print(float(sys.argv[1]) * 2)\n"
    evaluator = """
        import subprocess, sys
        def evaluate(path):
            done = subprocess.run([sys.executable, path, "21"], capture_output=True, text=True, check=True)
            return {"combined_score": float(done.stdout)}
    """
    assert evaluated.score(program, evaluator) == 42.0


def test_feedback_shows_what_functions_without_arguments_returned_in_full(evaluated):
    evaluator = (
        "def evaluate(path):\n p = load(path)\n p.place()\n p.twice(1)\n print('said')\n return {'x': 1}"
    )
    feedback = evaluated(PROGRAM, evaluator).value["feedback"].splitlines()
    assert "returned place() = ([[0.1, 0.2]], (1, 2.5), {'k': [None, True]})" in feedback
    assert not any("twice" in line for line in feedback)
    assert feedback[-1] == "said"


def test_feedback_is_limited(evaluated):
    program = "def big():\n    return list(range(5000))\ndef small():\n    return 0.1 + 0.2\n"
    evaluator = """
        def evaluate(path):
            program = load(path)
            program.big(), program.small()
            for _ in range(20):
                print("x" * 1_000_000)
            return {"combined_score": 1}
    """
    feedback = evaluated(program, evaluator).value["feedback"]
    assert "returned small() = 0.30000000000000004" in feedback
    assert "big()" not in feedback
    assert len(feedback) < 12_000


CASCADE = """
def evaluate_stage1(path): return {"combined_score": load(path).twice(1)}
def evaluate_stage2(path): return {"combined_score": 10 * load(path).twice(1), "second": 1}
def evaluate(path): return {"combined_score": -1}
"""


def test_a_cascade_stops_where_a_stage_is_below_its_threshold(evaluated):
    stopped = evaluated(PROGRAM, CASCADE, cascade_thresholds=(3.0,))
    assert (stopped.value["score"], "second" in stopped.value["metrics"]) == (2.0, False)
    assert evaluated.score(PROGRAM, CASCADE, cascade_thresholds=(2.0,)) == 20.0
    assert evaluated.score(PROGRAM, CASCADE) == -1.0


def test_a_quick_check_without_combined_score_passes_by_one_good_figure(evaluated):
    cascade = """
        def evaluate_stage1(path): return {"runs": float(load(path).twice(1) > 1), "value": -100.0}
        def evaluate_stage2(path): return {"combined_score": 7}
    """
    assert evaluated.score(PROGRAM, cascade, cascade_thresholds=(0.5,)) == 7.0
    failed = evaluated(PROGRAM.replace("x * by", "0"), cascade, cascade_thresholds=(0.5,))
    assert failed.failure == "invalid_output"
    assert "Stage 1 of the evaluator gave runs 0, value -100" in failed.message


@pytest.mark.parametrize(
    ("evaluator", "failure", "said"),
    [
        ("def evaluate(path): return {'combined_score': float('nan')}", "invalid_output", "the score nan"),
        ("def evaluate(path): return {'error': 'no good'}", "invalid_output", "error: no good"),
        ("def evaluate(path): return None", "crash", "dictionary"),
        ("def evaluate(path): return 1 / 0", "crash", "ZeroDivisionError"),
        ("def evaluate(path): raise SystemExit(0)", "crash", "SystemExit"),
        ("import os\ndef evaluate(path): os._exit(0)", "crash", "without a result"),
        ("import os\ndef evaluate(path): os.kill(os.getpid(), 11)", "crash", "SIGSEGV"),
        ("def evaluate(path): return {'combined_score': load(path).twice(-1)}", "crash", "negative"),
        ("import time\ndef evaluate(path): time.sleep(60)", "timeout", ""),
        ("def evaluate(path):\n while True: pass", "timeout", ""),
        ("def evaluate(path): return {'x': len(bytearray(1 << 32))}", "memory", "MemoryError"),
    ],
)
def test_an_evaluation_without_a_score_is_a_labelled_failure(evaluated, evaluator, failure, said):
    outcome = evaluated(PROGRAM, evaluator, wall_s=3.0, cpu_s=1, memory_gib=0.5)
    assert (outcome.failure, said in outcome.message) == (failure, True), outcome
    assert evaluated.worker(evaluator, PROGRAM, wall_s=3.0, cpu_s=1, memory_gib=0.5)  # it goes on


@pytest.mark.parametrize(
    ("program", "failure", "said"),
    [
        ("def twice(x):\n    while True: pass", "timeout", ""),
        ("def twice(x):\n    import os\n    os._exit(0)", "crash", "without a result"),
        ("1 / 0", "crash", "ZeroDivisionError"),
        ("import scipy\ndef twice(x): return x", "interface", "--allow-package scipy"),
        ("def twice(x):\n    import scipy\n    return x", "interface", "--allow-package scipy"),
        ("class Rubber(float): pass\ndef twice(x): return Rubber(x)", "interface", "type Rubber"),
        ("def twice(x): return lambda: 1", "interface", "type function"),
        ("def twice(x): return 'x' * (1 << 33)", "memory", ""),
    ],
)
def test_an_evaluator_that_swallows_exceptions_hides_no_failure_of_a_program(
    evaluated, program, failure, said
):
    evaluator = """
        def evaluate(path):
            try:
                return {"combined_score": load(path).twice(1)}
            except Exception:
                return {"combined_score": 0.0}
    """
    outcome = evaluated(program, evaluator, wall_s=3.0, cpu_s=1, memory_gib=0.5)
    assert (outcome.failure, said in outcome.message) == (failure, True), outcome


def test_declared_packages_can_be_imported_with_what_they_need(evaluated):
    program = "import scipy.special\ndef twice(x): return float(scipy.special.expit(0.0)) * x"
    evaluator = "import scipy.stats\ndef evaluate(path): return {'x': load(path).twice(2.0)}"
    assert evaluated.score(program, evaluator, allow_packages=("scipy",)) == 1.0


def test_unseeded_random_numbers_depend_on_the_sample_alone(evaluated):
    program = "import random, numpy as np\ndef draw(): return random.random() + np.random.uniform()"
    evaluator = "import random\ndef evaluate(path): return {'x': load(path).draw() + random.random()}"
    first, again = (evaluated.score(program, evaluator) for _ in range(2))
    assert first == again
    assert evaluated.score(program, evaluator, sample=1) != first
    assert evaluated.score(program, evaluator, stage="validation") != first


def test_programs_behave_alike_when_all_that_they_return_is_alike(evaluated):
    bare = "def evaluate_stage1(path): return {'x': load(path).place()[1][0]}\ndef evaluate(path): return {}"
    told = "def evaluate_stage1(path): return {'x': load(path).twice(1)}\ndef evaluate(path): return {}"
    other = PROGRAM + "\n# another text"
    changed = PROGRAM.replace("2.5", "2.6")

    def behaviours(evaluator):
        return [evaluated(each, evaluator, "probe").value["behaviour"] for each in (PROGRAM, other, changed)]

    first, same, different = behaviours(bare)
    assert first == same != different
    assert len(set(behaviours(told))) == 3  # with arguments, the probe's answers are not all that there is


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("class A:\n    x = 1.0\ndef make(): return A()", "make returned a value of type A"),
        ("def make():\n    open('note', 'w')\n", "PermissionError"),
    ],
)
def test_the_trial_tells_what_cannot_cross(evaluated, program, reason):
    evaluator = """
        def evaluate(path):
            try:
                return {"x": load(path).make().x}
            except Exception:
                return {"x": 0.0}
    """
    assert reason in evaluated(program, evaluator, "trial").value["cannot"]


def test_the_trial_notices_arguments_that_are_changed_or_are_functions(evaluated):
    program = "def sort(items): items.sort()\ndef apply(f): return f(1)"
    changes = "def evaluate(path):\n x = [2, 1]\n load(path).sort(x)\n return {'x': x[0]}"
    calls = "def evaluate(path): return {'x': load(path).apply(abs)}"
    assert "sort changes its arguments" in evaluated(program, changes, "trial").value["cannot"]
    assert "apply was given a value of type builtin" in evaluated(program, calls, "trial").value["cannot"]
    assert evaluated.score(program, changes, processes=1) == 1.0
    assert evaluated.score(program, calls, processes=1) == 1.0


def test_in_one_process_the_evaluator_has_the_program_itself(evaluated):
    evaluator = "def evaluate(path): return {'x': len(open(path).read()), 'y': load(path).twice(1)}"
    outcome = evaluated(PROGRAM, evaluator, processes=1)
    assert outcome.value["metrics"] == {"x": float(len(PROGRAM)), "y": 2.0}
    assert evaluated(PROGRAM, evaluator, "probe", processes=1).failure is None
    assert evaluated("1 / 0", evaluator, "probe", processes=1).failure == "crash"
