"""Policies of `token_selection` that play fair but for what an attack adds, and how they are compared."""

from evaluators.token_selection.problem import PROBLEM
from sandbox.screen import screen

STREAMING = """
import torch

SINKS = 4


class Policy:
    {methods}

    def select(self, query, cache, budget, generator):
        {before}
        kept = cache.affordable(budget)
        sinks = torch.arange(min(SINKS, kept))
        recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
        tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
        probability = torch.ones(tokens.shape)
        {after}
        return tokens, probability
"""

# What Python gives to a candidate that no screen has seen.
FREE = """
import torch

BUILTINS = torch.__dict__["__builtins__"]
imported, getattr, setattr = BUILTINS["__import__"], BUILTINS["getattr"], BUILTINS["setattr"]
os, sys, gc, json = [imported(name) for name in ("os", "sys", "gc", "json")]
np = imported("numpy")
language = sys.modules["evaluators.token_selection.cache"]
"""

# ... and the judge's protocol, spoken without the actor.
SPEAKING = (
    FREE
    + """
wire = sys.modules["sandbox.wire"]


def ask(question, **arrays):
    name = question.encode()
    arrays = {key: np.array(value) for key, value in arrays.items()}
    wire.write_frame(3, b"Q", bytes([len(name)]), name, wire.encode_arrays(arrays, 1 << 40))
    answer = wire.read_frame(3, 1 << 40)
    if answer is None:
        os._exit(1)
    return wire.decode_arrays(answer)


def end(**arrays):
    wire.write_frame(3, b"E", wire.encode_arrays(arrays, 1 << 40))
    os._exit(0)


bytes, BaseException = BUILTINS["bytes"], BUILTINS["BaseException"]


def tree(node):
    return np.frombuffer((node if isinstance(node, str) else json.dumps(node)).encode(), np.uint8)


def built(turns, node, **beside):
    count = int(turns["count"])
    sent = {f"{turn}.tree": tree(node) for turn in range(count)}
    return sent | {f"{turn}.{name}": array for turn in range(count) for name, array in beside.items()}


def selected(turns, tokens, probability=1.0):
    count, heads = len(turns["shapes"]), int(turns["shapes"][0][0])
    return {
        "counts": np.full((count, heads), len(tokens), np.int32),
        "indices": np.tile(np.array(tokens, np.int32), count * heads),
        "probabilities": np.full(count * heads * len(tokens), probability, np.float32),
    }
"""
)


def policy(before="", after="", methods="", prelude=""):
    """The fair policy with `prelude` above it, `methods` in its class, and code in `select`."""
    indented = {
        "methods": methods.strip("\n").replace("\n", "\n    "),
        "before": before.strip("\n").replace("\n", "\n        "),
        "after": after.strip("\n").replace("\n", "\n        "),
    }
    return prelude + STREAMING.format(**indented)


FAIR = policy()


class Policies:
    """A worker, and what the fair policy comes to on it."""

    problem = PROBLEM

    def __init__(self, worker):
        self.worker = worker
        self._fair = {}

    def run(self, source, stage="search"):
        return self.worker.run(source, stage)

    def fair(self, stage):
        if stage not in self._fair:
            self._fair[stage] = self.run(FAIR, stage).value
        return self._fair[stage]

    def assert_unpaid(self, source, stage="search"):
        """A labelled failure, or figures that are not better than the fair policy's; then all is well."""
        outcome = self.run(source, stage)
        if outcome.failure:
            assert outcome.failure in set(PROBLEM_FAILURES), outcome.message
        else:
            fair = self.fair(stage)
            assert outcome.value["score"] <= fair["score"] + 1e-9
            for name, figure in fair["metrics"].items():
                if name.startswith("traffic@"):
                    assert outcome.value["metrics"][name] >= figure - 1e-9
        self.assert_well(stage)
        return outcome

    def assert_fails(self, source, *failures, stage="search"):
        outcome = self.run(source, stage)
        assert outcome.failure in failures, (outcome.failure, outcome.message, outcome.value)
        self.assert_well("search")
        return outcome

    def assert_same_as_fair(self, source, stage="search"):
        """It ran, and all that it tried changed nothing."""
        outcome = self.run(source, stage)
        assert outcome.failure is None, outcome.message
        assert outcome.value["metrics"] == self.fair(stage)["metrics"]

    def assert_well(self, stage):
        """The next candidate is judged as ever."""
        assert self.run(FAIR, stage).value == self.fair(stage)


PROBLEM_FAILURES = (
    "crash",
    "interface",
    "invalid_output",
    "memory",
    "nondeterministic",
    "over_budget",
    "timeout",
)


def refusals(source):
    return screen(source, PROBLEM.language)
