"""What decisions are worth: errors, traffic and the score, from data that candidates never held."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind, Verdict
from evaluators.token_selection.estimator import attention_weights, weighted_values
from evaluators.token_selection.feedback import feedback
from evaluators.token_selection.workloads import BYTES_PER_CHANNEL, Workload, dense_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.token_selection.workloads import Layer

DECISIONS = ("counts", "indices", "probabilities", "beyond_bytes", "index_bytes")
Played = Mapping[str, "NDArray[Any]"]  # decisions on all cases, in their order
TOLERANCE = 1e-6  # of the traffic, for rounding
FINE = 0.01  # an error that is good enough: one layer that gets all of a budget is worth nothing more
DENSE_ERROR = 1e-4  # what float32 leaves of the error of a policy that reads everything


@dataclass(frozen=True)
class Selection:
    """The decisions on the cases of one layer of one context (B budgets x S steps = R cases)."""

    counts: "NDArray[np.int32]"  # [R, H]
    rows: "NDArray[np.int64]"  # [K] which of the R * H rows a selected token belongs to
    indices: "NDArray[np.int32]"  # [K]
    probabilities: "NDArray[np.float32]"  # [K]


@dataclass(frozen=True)
class Measured:
    """Figures of the cases of one layer of one context."""

    errors: "NDArray[np.float64]"  # [B, S, H] relative error of each head's output
    outputs: "NDArray[np.float32]"  # [B, S, H, D] as estimated
    traffic: "NDArray[np.float64]"  # [B] mean over steps
    index_traffic: "NDArray[np.float64]"  # [B] the part read to decide
    sampled: "NDArray[np.float64]"  # [B] attention weight on tokens read with p < 1
    locality: "NDArray[np.float64]"  # [B] overlap of what consecutive steps read


@dataclass(frozen=True)
class Opened:
    """The workload of a stage, and what dense attention makes of each context and layer."""

    workload: Workload
    scores: list[list["NDArray[np.float32]"]]  # [S, H, N]
    outputs: list[list["NDArray[np.float32]"]]  # [S, H, D]


def measure(opened: Opened, context: int, layer: int, played: Played) -> Measured:
    workload = opened.workload
    work, scores = workload.contexts[context][layer], opened.scores[context][layer]
    cases = [case.number for case in workload.cases(context, layer)]
    steps, heads, length = scores.shape
    selection = selected(played, cases[0], cases[-1] + 1)
    kv_heads, size = work.values.shape[0], work.values.shape[2]
    budgets = len(workload.budgets)

    step_of = np.tile(np.arange(steps), budgets)  # [R]
    lengths = np.array([workload.length(step) for step in range(steps)])
    flat = scores[step_of].reshape(-1, length)  # [R * H, N]
    weights = attention_weights(
        flat[selection.rows, selection.indices], selection.counts.ravel(), selection.probabilities
    )
    dense = np.zeros((budgets * steps * heads, length), np.float32)
    dense[selection.rows, selection.indices] = weights
    estimates = weighted_values(dense.reshape(-1, heads, length), work.values.astype(np.float32))
    exact = opened.outputs[context][layer][step_of]
    errors = np.linalg.norm(estimates - exact, axis=-1) / np.linalg.norm(exact, axis=-1)

    chosen = np.zeros((budgets * steps * heads, length), bool)
    chosen[selection.rows, selection.indices] = True
    if np.count_nonzero(chosen) < len(selection.indices):
        raise CandidateError(FailureKind.INVALID_OUTPUT, "A head selected the same token twice.")
    # a KV head pays for the union of what its query heads selected
    read = np.logical_or.reduce(chosen.reshape(budgets * steps, kv_heads, -1, length), axis=2)  # [R, G, N]
    beyond, index = (played[name][cases[0] : cases[-1] + 1] for name in ("beyond_bytes", "index_bytes"))
    selected_bytes = read.sum((1, 2), dtype=np.float64) * 2 * size * BYTES_PER_CHANNEL
    available = np.array([dense_bytes(kv_heads, int(tokens), size) for tokens in lengths[step_of]])
    sampled = np.where(selection.probabilities < 1, weights, 0)
    sampled_rows = np.bincount(selection.rows, sampled, minlength=budgets * steps * heads)

    def mean(of: "NDArray[Any]") -> "NDArray[np.float64]":
        return np.asarray(of.reshape(budgets, -1).mean(1), np.float64)

    return Measured(
        errors=errors.reshape(budgets, steps, heads).astype(np.float64),
        outputs=estimates.reshape(budgets, steps, heads, size),
        # reading everything needs no index, so that no step costs more than dense attention
        traffic=mean(np.minimum((selected_bytes + beyond) / available, 1.0)),
        index_traffic=mean(index / available),
        sampled=mean(sampled_rows),
        locality=_locality(read.reshape(budgets, steps, kv_heads, length), np.diff(workload.steps) == 1),
    )


def selected(played: Played, first: int, last: int) -> Selection:
    """The decisions on cases first .. last - 1, taken out of the flat arrays."""
    counts = played["counts"]
    begin, end = int(counts[:first].sum()), int(counts[:last].sum())
    counts = counts[first:last]
    rows = np.repeat(np.arange(counts.size), counts.ravel())
    return Selection(counts, rows, played["indices"][begin:end], played["probabilities"][begin:end])


def dense_outputs(
    scores: "NDArray[np.float32]", work: "Layer", lengths: "NDArray[np.int64]"
) -> "NDArray[np.float32]":
    """Exact attention of all steps [S, H, D]; step s sees the first lengths[s] tokens."""
    visible = np.arange(scores.shape[2])[None, :] < lengths[:, None]  # [S, N]
    masked = np.where(visible[:, None, :], scores, -np.inf)
    weights = np.exp(masked - masked.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weighted_values(weights, work.values.astype(np.float32))


def _locality(read: "NDArray[np.bool_]", follows: "NDArray[np.bool_]") -> "NDArray[np.float64]":
    """Mean Jaccard overlap of what consecutive steps read: read [B, S, G, N] gives [B].

    `follows` [S - 1] says which step comes right after the one before it.
    """
    before, after = read[:, :-1][:, follows], read[:, 1:][:, follows]
    if not before.shape[1]:
        return np.zeros(len(read))
    overlap = (before & after).sum(-1) / np.maximum((before | after).sum(-1), 1)
    return np.asarray(overlap.mean((1, 2)), np.float64)


def check_traffic(workload: Workload, measured: list[list[Measured]]) -> None:
    """The budget holds for the mean over the layers and steps of each context."""
    for context, layers in enumerate(measured):
        traffic = np.mean([layer.traffic for layer in layers], axis=0)
        for budget, used in zip(workload.budgets, traffic, strict=True):
            if used > budget * (1 + TOLERANCE):
                raise CandidateError(
                    FailureKind.OVER_BUDGET,
                    f"At a budget of {budget:.1%} the policy read {used:.2%} of the dense traffic (context "
                    f"{context}). "
                    "Ask cache.affordable(budget) after the index reads, and remember that a KV head pays "
                    "for the "
                    "union of what its query heads select.",
                )


def check_dense(workload: Workload, measured: list[list[Measured]]) -> None:
    """What does not count towards the score has to equal dense attention."""
    exact = sorted(set(range(len(workload.budgets))) - set(workload.scored))
    errors = [layer.errors[number].max() for layers in measured for layer in layers for number in exact]
    if errors and (worst := float(max(errors))) > DENSE_ERROR:
        asked, when = (
            (f"an epsilon of {workload.goals[exact[0]].epsilon:g}", "goal.epsilon is next to nothing")
            if workload.goals
            else ("a budget of 100%", "cache.affordable(budget) >= cache.length")
        )
        raise CandidateError(
            FailureKind.INVALID_OUTPUT,
            f"At {asked} the result has to equal dense attention, but an error of {worst:.2g} was left. "
            f"When {when}, select every token with probability 1.",
        )


def behaviour_of(played: Played) -> str:
    """The behaviour hash of decisions."""
    digest = hashlib.sha256()
    for name in DECISIONS:
        digest.update(np.ascontiguousarray(played[name]).tobytes())
    return digest.hexdigest()


def score_of(samples: "NDArray[np.float64]") -> float:
    """The score: mean over budgets and layers of -log10(error + 1%); samples [contexts, B, L] are mean
    relative errors.

    Of all that was tried, this ranks policies most as their effect on the model does
    (docs/measurements/token_selection.md): every layer counts, none for more than the others.
    """
    return float(scores_of(samples.mean(0)))


def scores_of(layer_errors: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The scores of policies with such mean errors of their layers: [..., B, L] gives [...]."""
    return np.asarray(-np.log10(layer_errors + FINE).mean((-2, -1)), np.float64)


def joint_error(layer_errors: "NDArray[np.float64]") -> float:
    """The error at one budget that the score is made of: the geometric mean over layers [L] of error + 1%."""
    return float(10 ** np.log10(layer_errors + FINE).mean())


def verdict(workload: Workload, measured: list[list[Measured]], behaviour: str) -> Verdict:
    scored = workload.scored
    errors = np.array([[layer.errors for layer in layers] for layers in measured])[
        :, :, scored
    ]  # [C, L, B, S, H]
    samples = errors.mean((3, 4)).transpose(0, 2, 1)  # [C, B, L]
    figures = {
        name: np.array([[getattr(layer, name) for layer in layers] for layers in measured])[
            :, :, scored
        ].mean((0, 1))
        for name in ("traffic", "index_traffic", "sampled", "locality")
    }
    layer_errors = samples.mean(0)  # [B, L]
    layer_traffic = np.mean([[layer.traffic for layer in layers] for layers in measured], 0).T[scored]
    metrics: dict[str, float] = {}
    for position, number in enumerate(scored):
        at = f"@{workload.budgets[number]:.1%}"
        of_budget = errors[:, :, position]
        metrics |= {
            f"error{at}": joint_error(layer_errors[position]),
            f"mean_error{at}": float(of_budget.mean()),
            f"p95_error{at}": float(np.quantile(of_budget, 0.95)),
            f"worst_layer_error{at}": float(layer_errors[position].max()),
            f"worst_layer{at}": float(layer_errors[position].argmax()),
            f"traffic{at}": float(figures["traffic"][position]),
            f"index_traffic{at}": float(figures["index_traffic"][position]),
        }
    metrics["worst_layer_error"] = float(layer_errors.max(1).mean())
    descriptors = {
        "index_share": float((figures["index_traffic"] / figures["traffic"]).mean()),
        "sampled_mass": float(figures["sampled"].mean()),
        "locality": float(figures["locality"].mean()),
    }
    return Verdict(
        behaviour=behaviour,
        score=score_of(samples),
        metrics=metrics,
        descriptors=descriptors,
        feedback=feedback(
            [workload.budgets[number] for number in scored],
            layer_errors,
            layer_traffic,
            metrics,
            descriptors,
        ),
        samples=samples.tolist(),
        # what a policy draws and then reads for certain does not show here; it costs re-measurements only
        noisy=descriptors["sampled_mass"] > 0,
    )
