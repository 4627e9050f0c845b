"""The same policies end to end, ours and kvpress's, on the same contexts: `kvpress_effect.py [--contexts C]`.

kvpress compresses while it reads the context; the continuation of 128 tokens then runs on what it has left.
Prints for each policy the mean KL divergence from the full cache both ways, at a quarter of the tokens, and
the paired difference with its 95% interval.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from kvpress import (
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.kv_eviction.actor import open_actor
from evaluators.kv_eviction.judge import Judge
from evaluators.kv_eviction.prefilled import ensure, prefilled
from evaluators.kv_eviction.workloads import MEASURED, StagePlan
from evaluators.problem import get_problem
from evolve.statistics import mean_interval

KEPT = 0.25
PRESSES = {
    "streaming_llm": StreamingLLMPress(1 - KEPT, n_sink=4),
    "snapkv": SnapKVPress(1 - KEPT),
    "tova": TOVAPress(1 - KEPT),
    "knorm": KnormPress(1 - KEPT),
    "keydiff": KeyDiffPress(1 - KEPT),
    "lagkv": LagKVPress(1 - KEPT),
    "expected_attention": ExpectedAttentionPress(1 - KEPT, use_covariance=True, use_vnorm=True),
}


def ours(judge: Judge, source: str) -> np.ndarray:
    """Mean KL of each context."""
    examination, actor = judge.examine("stage", source), open_actor()
    while examination.another_process():
        examination.take(actor.act(source, examination.answer))
    return np.array([outcome.measured.kl.mean() for (outcome,) in examination.outcomes])


def theirs(judge: Judge, press: object, contexts: int) -> np.ndarray:
    """Mean KL of each context, with kvpress."""
    from transformers import DynamicCache

    model, found = judge.model, []
    for context in prefilled(judge.folder, "search", contexts):
        cache = DynamicCache()
        with torch.no_grad():
            with press(model):
                model(torch.tensor([context.entry.tokens]), past_key_values=cache, logits_to_keep=1)
            following = torch.tensor([context.entry.continuation[:MEASURED]])
            positions = context.length + torch.arange(MEASURED)[None]
            logits = model(following, past_key_values=cache, position_ids=positions).logits[0]
        exact = judge.exact(judge.cached(context)).log_probs
        kl = (exact.exp() * (exact - logits.float().log_softmax(-1))).sum(-1)
        found.append(float(kl.mean()))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs kvpress and kvolve on the same contexts.")
    parser.add_argument("--contexts", type=int, default=4)
    parser.add_argument("--recording", default="full")
    given = parser.parse_args()
    folder = ensure(given.recording, "", (), None, say=print, progress=lambda *_: None)
    judge = Judge(folder, {"stage": StagePlan("search", given.contexts, (KEPT,))})
    sources = {seed.name: seed.source for seed in get_problem("kv_eviction").seeds()}
    print("| policy | KL, kvolve | KL, kvpress | difference, 95% interval |\n|---|--:|--:|--:|")
    for name, press in PRESSES.items():
        mine, other = ours(judge, sources[name]), theirs(judge, press, given.contexts)
        print(
            f"| {name} | {mine.mean():.4f} | {other.mean():.4f} | {mean_interval(mine - other)} |", flush=True
        )


if __name__ == "__main__":
    main()
