"""What decisions are worth: errors, computed fractions and the score, from data that no candidate held."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind, Verdict
from evaluators.prefill_selection.feedback import feedback
from evaluators.prefill_selection.workloads import dense_products, prompt_products
from evaluators.token_selection.scoring import DENSE_ERROR, TOLERANCE, joint_error, score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.prefill_selection.workloads import Layer, QueryBlock, Workload

LEAST_SUM = 1e-20  # of weights: below it, the largest score of a row is looked for anew


@dataclass(frozen=True)
class Decision:
    """What a policy computes for one query block, and what deciding cost."""

    columns: "NDArray[np.bool_]"  # [H, end], those on the diagonal included
    own: int  # products to decide on this block,
    shared: int  # and those that serve the whole prompt, so far
    drew: bool  # whether random numbers were drawn

    def alike(self, other: "Decision") -> bool:
        """Whether another decision is the same, at the same cost."""
        costs = (self.own, self.shared) == (other.own, other.shared)
        return costs and np.array_equal(self.columns, other.columns)


Played = dict[tuple[int, int, int], list[Decision]]  # context, layer, budget -> block after block


@dataclass(frozen=True)
class Measured:
    """Figures of one layer of one context."""

    errors: "NDArray[np.float64]"  # [B, blocks, H, M] relative error of each head's output
    recall: "NDArray[np.float64]"  # [B] share of the attention that lies on what is computed
    computed: "NDArray[np.float64]"  # [B] of what dense attention computes, with what deciding took
    deciding: "NDArray[np.float64]"  # [B] the part that deciding took
    run_length: "NDArray[np.float64]"  # [B] binary logarithm of the columns computed in a row
    head_spread: "NDArray[np.float64]"  # [B] of the columns of a head, relative to their mean


def measure(workload: "Workload", context: int, layer: int, played: Played) -> Measured:
    """The figures of all decisions on one layer of one context."""
    work = workload.contexts[context][layer]
    decisions = [played[context, layer, budget] for budget in range(len(workload.budgets))]
    found = [_errors(work, block, [of[n].columns for of in decisions]) for n, block in enumerate(work.blocks)]
    costs = np.array([_cost(work, of) for of in decisions])
    shapes = np.array(
        [[_shape(one.columns, b) for one, b in zip(of, work.blocks, strict=True)] for of in decisions]
    )
    return Measured(
        errors=np.stack([errors for errors, _ in found], 1),
        recall=np.mean([recall for _, recall in found], 0),
        computed=costs[:, 0],
        deciding=costs[:, 1],
        run_length=shapes[..., 0].mean(1),
        head_spread=shapes[..., 1].mean(1),
    )


def _errors(
    layer: "Layer", block: "QueryBlock", chosen: "list[NDArray[np.bool_]]"
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Relative errors [B, H, M] of a block's outputs when only `chosen` columns [H, end] are computed, and
    the share of the attention [B] that these have.
    """
    heads, rows, size = block.queries.shape
    kv_heads = len(layer.keys)
    keys = layer.keys[:, : block.end].astype(np.float32)
    values = layer.values[:, : block.end].astype(np.float32)
    scores = block.queries.reshape(kv_heads, -1, size) @ keys.swapaxes(1, 2) / np.float32(np.sqrt(size))
    scores = scores.reshape(heads, rows, block.end)
    behind = np.arange(block.end) > block.begin + np.arange(rows)[:, None]
    scores[:, behind] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))

    def outputs(of: "NDArray[np.float32]") -> "NDArray[np.float32]":
        weighted = of.reshape(kv_heads, -1, block.end) @ values
        found: NDArray[np.float32] = weighted.reshape(heads, rows, size) / of.sum(-1, keepdims=True)
        return found

    exact = outputs(weights)
    norms, whole = np.linalg.norm(exact, axis=-1), weights.sum(-1)
    errors, recalls = [], []
    for columns in chosen:
        kept = weights * columns[:, None]
        recalls.append((kept.sum(-1) / whole).mean())
        if kept.sum(-1).min() < LEAST_SUM:
            partial = np.where(columns[:, None], scores, np.float32(-np.inf))
            kept = np.exp(partial - partial.max(-1, keepdims=True))
        errors.append(np.linalg.norm(outputs(kept) - exact, axis=-1) / norms)
    return np.array(errors, np.float64), np.array(recalls, np.float64)


def _cost(layer: "Layer", decisions: list[Decision]) -> tuple[float, float]:
    """What was computed, and the part of it that deciding took, as fractions of dense attention."""
    prompt = prompt_products(layer.heads, layer.keys.shape[1])
    dense = [dense_products(layer.heads, block.rows, block.end) for block in layer.blocks]
    own = sum(one.own for one in decisions) / sum(dense)
    deciding = own + decisions[-1].shared / prompt
    columns = sum(
        2 * block.rows * int(np.count_nonzero(one.columns))
        for one, block in zip(decisions, layer.blocks, strict=True)
    )
    # computing everything needs no decision, so that nothing costs more than dense attention
    return min(columns / sum(dense) + deciding, 1.0), min(deciding, 1.0)


def _shape(columns: "NDArray[np.bool_]", block: "QueryBlock") -> tuple[float, float]:
    """Binary logarithm of the mean length of runs before the diagonal, and the spread between heads."""
    before = columns[:, : block.begin]
    counts = before.sum(1)
    starts = np.count_nonzero(before[:, 1:] & ~before[:, :-1]) + np.count_nonzero(before[:, :1])
    return float(np.log2(max(1.0, counts.sum() / max(1, starts)))), float(
        counts.std() / max(1.0, float(counts.mean()))
    )


def check_computed(workload: "Workload", measured: list[list[Measured]]) -> None:
    """The budget holds for the mean over the layers of each context."""
    for context, layers in enumerate(measured):
        for budget, used in zip(workload.budgets, np.mean([one.computed for one in layers], 0), strict=True):
            if used > budget * (1 + TOLERANCE):
                raise CandidateError(
                    FailureKind.OVER_BUDGET,
                    f"At a budget of {budget:.1%} the policy took {used:.2%} of what dense attention "
                    f"computes (context {context}). Ask block.affordable(budget), after all else is read, "
                    "for the columns of a head.",
                )


def check_dense(workload: "Workload", measured: list[list[Measured]]) -> None:
    """At a budget of 100%, the result is that of dense attention."""
    budget = workload.budgets.index(1.0)
    worst = max(float(layer.errors[budget].max()) for layers in measured for layer in layers)
    if worst > DENSE_ERROR:
        raise CandidateError(
            FailureKind.INVALID_OUTPUT,
            f"At a budget of 100% the result has to equal dense attention, but an error of {worst:.2g} was "
            "left. When budget >= 1, select every column.",
        )


def behaviour_of(played: Played) -> str:
    """The behaviour hash of decisions."""
    digest = hashlib.sha256()
    for turn in sorted(played):
        for decision in played[turn]:
            digest.update(np.packbits(decision.columns).tobytes())
            digest.update(f"{turn} {decision.own} {decision.shared} ".encode())
    return digest.hexdigest()


def verdict(workload: "Workload", measured: list[list[Measured]], played: Played) -> Verdict:
    """The verdict on what was played. Raises CandidateError for what breaks the rules."""
    check_computed(workload, measured)
    if 1.0 in workload.budgets:
        check_dense(workload, measured)
    scored = [number for number, budget in enumerate(workload.budgets) if budget < 1]

    def figures(name: str) -> "NDArray[np.float64]":
        """[contexts, layers, budgets below 100%, ...]"""
        found = np.array([[getattr(one, name) for one in layers] for layers in measured], np.float64)
        return np.asarray(found[:, :, scored])

    errors = figures("errors")  # [C, L, B, blocks, H, M]
    samples = errors.mean((3, 4, 5)).transpose(0, 2, 1)  # [C, B, L]
    computed, deciding, recall = figures("computed"), figures("deciding"), figures("recall")
    layer_errors = samples.mean(0)  # [B, L]
    metrics: dict[str, float] = {}
    for position, number in enumerate(scored):
        at = f"@{workload.budgets[number]:.1%}"
        metrics |= {
            f"error{at}": joint_error(layer_errors[position]),
            f"mean_error{at}": float(errors[:, :, position].mean()),
            f"p95_error{at}": float(np.quantile(errors[:, :, position], 0.95)),
            f"worst_layer_error{at}": float(layer_errors[position].max()),
            f"worst_layer{at}": float(layer_errors[position].argmax()),
            f"recall{at}": float(recall[:, :, position].mean()),
            f"computed{at}": float(computed[:, :, position].mean()),
            f"deciding{at}": float(deciding[:, :, position].mean()),
        }
    metrics["worst_layer_error"] = float(layer_errors.max(1).mean())
    descriptors = {
        "deciding_share": float((deciding / computed).mean()),
        "run_length": float(figures("run_length").mean()),
        "head_spread": float(figures("head_spread").mean()),
    }
    return Verdict(
        behaviour=behaviour_of(played),
        score=score_of(samples),
        metrics=metrics,
        descriptors=descriptors,
        feedback=feedback(
            [workload.budgets[number] for number in scored],
            layer_errors,
            computed.mean(0).T,
            metrics,
            descriptors,
        ),
        samples=samples.tolist(),
        noisy=any(decision.drew for decisions in played.values() for decision in decisions),
    )
