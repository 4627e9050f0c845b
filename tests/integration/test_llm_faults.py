"""One real run in which every reply has its own fault: each ends with its label, and the ledger is right.

Replies that came are in the ledger, whatever is in them; those that did not come are asked for again.
"""

from dataclasses import dataclass, field

import pytest

from database.archive import Archive
from evolve.workspace import place_of
from tests.integration.conftest import Command
from tests.llm.policies import POLICY, policies
from tests.llm.server import (
    Behaviour,
    Server,
    breaks_off,
    drips,
    hangs,
    hangs_up,
    refuses,
    says,
    sends,
    slowly_says,
)

EVALUATIONS = 7 + 28 + 8  # seeds, cases, and further measurements of noisy seeds
PRESET = """
problem = "token_selection"
recording = "small"
start_with = ["quest", "simhash", "sparq_sampled", "streaming_llm"]
proposer = "llm"
look_ahead = 1
[[models]]
model = "loopback"
base_url = "{url}"
timeout_s = 1
price_in = 1.0
price_out = 2.0
[llm]
operators = {{ rewrite = 1 }}
tries = 0
explain_every = 0
polish = 0.0
"""


def policy(number: int, words: str = "I try.") -> str:
    return f"{words}\n```python{POLICY.format(first=number)}```\n"


@dataclass(frozen=True)
class Case:
    """What the server does for one proposal: the faults, then what it says in the end.

    `label` is the failure of the proposal, "" for a score; `ends` is what its detail says.
    """

    name: str
    reply: Behaviour
    label: str = ""
    ends: str = ""
    faults: tuple[Behaviour, ...] = field(default=())


def good(name: str, number: int, *faults: Behaviour) -> Case:
    return Case(name, says(policy(number)), faults=faults)


CASES = [
    good("normal reply", 1),
    Case("unicode", says(policy(2, "≥ 2 ☃ \u202e 𝔘"))),
    Case("no fences", says(POLICY.format(first=3))),
    Case("several fences", says(f"```\nx = 1\n```\n{policy(4)}\n```sh\nls\n```")),
    Case("reasoning content", says(policy(5), reasoning_content="Hm. " * 50)),
    Case("thoughts in the reply", says(f"<think>\nHm.\n</think>\n{policy(6)}")),
    Case("parts", says([{"type": "text", "text": policy(7)}])),
    Case("slow reply", slowly_says(policy(8))),
    Case("tokens not counted", says(policy(9), usage=None)),
    good("429 with Retry-After", 10, refuses(429, Retry_After="1")),
    good("500s", 11, refuses(500), refuses(503)),
    good("hanging", 12, hangs),
    good("dripping", 13, drips),
    good("disconnected in the middle", 14, breaks_off),
    good("disconnected at once", 15, hangs_up),
    good("malformed JSON", 16, sends(b'{"choices": [{"mess')),
    good("not JSON at all", 17, sends(b"<html>502</html>")),
    Case("refusal", says("I'm sorry, but I can't help with that."), "syntax", "no program in it"),
    Case("refusal of its own field", says(None, refusal="I can't."), "syntax", "no program in it"),
    Case("truncated code", says("```python\nclass Policy:\n    def select(self"), "syntax", "cut off"),
    Case("syntax error", says("```python\nclass Policy:\n    x = = 1\n```"), "syntax", "cannot parse"),
    Case("wrong function", says("```python\ndef choose(x):\n    return x\n```"), "interface", "no Policy"),
    Case("forbidden", says("```python\nimport os\n\n\nclass Policy:\n    pass\n```"), "screen", "os"),
    Case("empty choices", sends(b'{"choices": []}'), "interface", "empty"),
    Case("empty reply", says(None), "interface", "empty"),
    Case("only reasoning", says(None, reasoning="Hm. " * 99, finish_reason="length"), "interface", "empty"),
    Case("huge reply", says("y" * 1_000_000), "screen", "no program in it"),
    Case(
        "block that does not apply",
        says("<<<<<<< SEARCH\nno\n=======\nyes\n>>>>>>> REPLACE"),
        "syntax",
        "not",
    ),
]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> tuple[Command, Archive]:
    kvolve = Command(tmp_path_factory.mktemp("faulty"))
    with Server() as server:
        for case in CASES:
            server.script += [*case.faults, case.reply]
        server.usual = policies
        (kvolve.folder / "faulty.toml").write_text(PRESET.format(url=server.url))
        kvolve("run", "faulty.toml", "--max-evaluations", EVALUATIONS, "--run-dir", "run")
        archive = Archive.open(place_of(kvolve.folder / "run"), read_only=True)
        retried = sum(len(case.faults) for case in CASES)
        assert len(server.requests) == archive.cost().calls + retried
    return kvolve, archive


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_every_reply_ends_in_its_label_with_the_ledger_right(faulty, number):
    _, archive = faulty
    case = CASES[number]
    step = archive.latest_steps(EVALUATIONS)[number]
    candidate = archive.candidate(step.hash)
    evaluation = archive.find_source(step.hash)
    assert evaluation is not None
    assert (evaluation.failure or "") == case.label, evaluation.message
    assert case.ends in candidate.proposal.detail
    (call,) = archive.calls(step.number)
    assert (call.operator, call.position, call.model) == ("rewrite", 0, "loopback")
    assert step.effort.tokens == call.tokens_in + call.tokens_out
    assert call.cost_usd == pytest.approx((call.tokens_in + 2 * call.tokens_out) / 1e6)


def test_no_proposal_is_lost_and_the_sums_are_right(faulty):
    kvolve, archive = faulty
    assert archive.completed() == EVALUATIONS
    assert archive.pending() == []
    cost, by_models = archive.cost(), archive.latest_steps(EVALUATIONS)
    assert cost.calls == len(by_models) >= len(CASES)
    assert cost.usd == pytest.approx((cost.tokens_in + 2 * cost.tokens_out) / 1e6)
    assert kvolve.inspect("run")["cost"]["tokens_reasoning"] == cost.tokens_reasoning > 0
