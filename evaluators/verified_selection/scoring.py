"""What decisions are worth that are to guarantee something: the traffic, where the guarantee is kept."""

from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import Verdict
from evaluators.token_selection.scoring import selected
from evaluators.verified_selection.certificate import Certificate, certify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evaluators.token_selection.scoring import Measured, Opened, Played
    from evaluators.token_selection.workloads import Goal


def errors_of(
    opened: "Opened", context: int, layer: int, played: "Played", measured: "Measured"
) -> "NDArray[np.float64]":
    """Relative errors [B, S, H] of what the goals of a workload are about: a layer's outputs, or their
    numerators or denominators.
    """
    workload = opened.workload
    quantity = workload.goals[0].quantity
    if quantity == "output":
        return measured.errors
    ratios = _denominators(opened, context, layer, played).reshape(measured.errors.shape)
    if quantity == "denominator":
        return np.asarray(np.abs(ratios - 1))
    exact = opened.outputs[context][layer]  # [S, H, D], where the denominator is 1
    missed = measured.outputs * ratios[..., None] - exact
    return np.asarray(np.linalg.norm(missed, axis=-1) / np.linalg.norm(exact, axis=-1), np.float64)


def _denominators(opened: "Opened", context: int, layer: int, played: "Played") -> "NDArray[np.float64]":
    """Estimated denominators as multiples of the exact ones, case after case and head after head."""
    workload, scores = opened.workload, opened.scores[context][layer].astype(np.float64)  # [S, H, N]
    found = []
    for case in workload.cases(context, layer):
        visible = scores[case.step, :, : workload.length(case.step)]
        weights = np.exp(visible - visible.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        chosen = selected(played, case.number, case.number + 1)
        estimated = weights[chosen.rows, chosen.indices] / chosen.probabilities
        found.append(np.bincount(chosen.rows, estimated, minlength=len(visible)))
    return np.concatenate(found)


def sampled_share(opened: "Opened", context: int, layer: int, played: "Played") -> "NDArray[np.float64]":
    """Tokens that were read with a probability below 1, as a share of all, [B]: the mean of heads and
    steps.
    """
    workload = opened.workload
    shares = np.zeros(len(workload.goals))
    for case in workload.cases(context, layer):
        chosen = selected(played, case.number, case.number + 1)
        drawn = np.count_nonzero(chosen.probabilities < 1)
        shares[case.budget] += drawn / chosen.counts.size / workload.length(case.step)
    return shares / len(workload.steps)


def certificates(samples: "NDArray[np.float64]") -> list[Certificate]:
    """The certificate of each goal; samples as in `verdict`."""
    violations, trials, _ = np.moveaxis(_parts(samples).sum(0), 1, 0)  # [B, L]
    deltas = samples[0, :, -1]
    return [certify(float(delta), violations[goal], trials[goal]) for goal, delta in enumerate(deltas)]


def score_of(samples: "NDArray[np.float64]") -> float:
    """The score: mean over goals of -log10(traffic) where one is certified, else of -log10(bound / delta).

    So dense attention has 0, what is certified and reads less has more, and what is not certified has less
    than 0, the less, the farther its bound is from delta.
    """
    traffic = _parts(samples)[:, :, 2].mean((0, 2))  # [B]
    values = [
        -np.log10(traffic[goal]) if found.certified else -np.log10(found.worst / found.delta)
        for goal, found in enumerate(certificates(samples))
    ]
    return float(np.mean(values))


def _parts(samples: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Violations, trials and traffic [C, B, 3, L]."""
    return samples[..., :-1].reshape(*samples.shape[:2], 3, -1)


def verdict(
    goals: "Sequence[Goal]",
    measured: "list[list[Measured]]",
    errors: "NDArray[np.float64]",
    drawn: "NDArray[np.float64]",
    behaviour: str,
) -> Verdict:
    """The verdict on the scored goals B.

    Arguments:
        errors: [C, L, B, S, H], of what the goals are about.
        drawn: [C, L, B], see `sampled_share`.

    `samples` [C, B, 3 L + 1] are the violations of each layer, its trials, its traffic, and last delta.
    """
    contexts, _, count, steps, heads = errors.shape
    epsilons, deltas = np.array([goal[:2] for goal in goals]).T
    beyond = errors > epsilons[:, None, None]
    violations = beyond.sum((3, 4)).transpose(0, 2, 1)  # [C, B, L]
    trials = np.full(violations.shape, steps * heads)
    figures = {
        name: np.array([[getattr(layer, name)[:count] for layer in row] for row in measured])  # [C, L, B]
        for name in ("traffic", "index_traffic", "sampled", "locality")
    }
    traffic = figures["traffic"].transpose(0, 2, 1)
    last = np.broadcast_to(deltas[:, None], (contexts, count, 1))
    samples = np.concatenate([violations, trials, traffic, last], 2)
    found = certificates(samples)
    of_heads = beyond.mean((0, 3))  # [L, B, H]
    metrics: dict[str, float] = {}
    for place, (goal, certificate) in enumerate(zip(goals, found, strict=True)):
        at = f"@{goal}"
        metrics |= {
            f"certified{at}": float(certificate.certified),
            f"traffic{at}": float(figures["traffic"][..., place].mean()),
            f"index_traffic{at}": float(figures["index_traffic"][..., place].mean()),
            f"sampled_tokens{at}": float(drawn[..., place].mean()),
            f"violations{at}": certificate.rate,
            f"bound{at}": certificate.bound,
            f"worst_layer_bound{at}": float(certificate.layer_bounds.max()),
            f"worst_layer{at}": float(certificate.layer_bounds.argmax()),
            f"heads_above{at}": float((of_heads[:, place] > goal.delta).mean()),
            f"p95_error{at}": float(np.quantile(errors[:, :, place], 0.95)),
        }
    metrics |= {
        "certified_goals": float(sum(certificate.certified for certificate in found)),
        "traffic": float(traffic.mean()),
        "index_traffic": float(figures["index_traffic"].mean()),
        "sampled_tokens": float(drawn.mean()),
        "bound_to_delta": max(certificate.worst / certificate.delta for certificate in found),
    }
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
        feedback=_feedback(goals, found, figures["traffic"].mean(0).T, metrics, descriptors),
        samples=samples.tolist(),
        noisy=descriptors["sampled_mass"] > 0,
    )


def _feedback(
    goals: "Sequence[Goal]",
    found: list[Certificate],
    layer_traffic: "NDArray[np.float64]",
    metrics: dict[str, float],
    descriptors: dict[str, float],
) -> str:
    """What a proposer is told: by goal, how often it was missed, where, and what was read for it [B, L]."""
    lines = []
    for goal, certificate, read in zip(goals, found, layer_traffic, strict=True):
        kept = "certified" if certificate.certified else "NOT certified"
        rates, bounds = (
            ", ".join(f"{value:.1%}" for value in values)
            for values in (certificate.layer_rates, certificate.layer_bounds)
        )
        lines.append(
            f"Epsilon {goal.epsilon:g}, delta {goal.delta:g} of the {goal.quantity}: {kept}; "
            f"{certificate.rate:.1%} violations (upper bound {certificate.bound:.1%}), by layer {rates} "
            f"(bounds {bounds}); traffic {metrics[f'traffic@{goal}']:.1%}, by layer "
            f"{', '.join(f'{share:.1%}' for share in read)}; {metrics[f'sampled_tokens@{goal}']:.1%} of the "
            f"tokens were sampled."
        )
    lines.append(
        f"{descriptors['index_share']:.0%} of the traffic was read to decide, "
        f"{descriptors['sampled_mass']:.0%} of the attention weight came from sampled tokens, consecutive "
        f"steps shared {descriptors['locality']:.0%} of their reads."
    )
    return "\n".join(lines)
