"""A sampled residual for a deterministic selection."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    code,
    expression,
    fresh,
    names_in,
    replaced,
    sites,
    statement,
    with_constant,
    with_definitions,
)

if TYPE_CHECKING:
    from numpy.random import Generator

# Inclusion probabilities are exact: every token that is not kept is drawn with the same probability.
RANKED = '''\
def {name}(ranking, kept, generator):
    """The heaviest tokens for certain, a uniform sample of the rest: tokens and probabilities [G, kept]."""
    sampled = int(kept * {share})
    order = ranking.argsort(descending=True, stable=True)
    rest = order[:, kept - sampled :]
    places = torch.randperm(rest.shape[1], generator=generator)[:sampled]
    tokens = torch.cat([order[:, : kept - sampled], rest[:, places]], 1)
    probability = torch.ones(tokens.shape)
    probability[:, kept - sampled :] = sampled / max(1, rest.shape[1])
    return tokens, probability
'''
# The heads of a group share the sample, because a token is loaded once for all of them.
CHOSEN = '''\
def {name}(tokens, length, generator):
    """Some chosen tokens [H, M] give way to a uniform sample of all others: tokens and probabilities."""
    sampled = int(tokens.shape[1] * {share})
    start = min({start}, tokens.shape[1] - sampled)
    kept = torch.cat([tokens[:, :start], tokens[:, start + sampled :]], 1)
    others = torch.ones(tokens.shape[0], length).scatter(1, kept.clamp(min=0), 0.0)
    order = (others * (1 + torch.rand(length, generator=generator))).argsort(descending=True, stable=True)
    probability = torch.ones(tokens.shape)
    probability[:, kept.shape[1] :] = sampled / others.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([kept, order[:, :sampled]], 1), probability
'''


def add_sampling(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Gives a part of a deterministic selection to a uniform sample with true inclusion probabilities."""
    select = select_of(module)
    found = _deterministic(select[1]) if select else []
    if not found:
        return None
    block, end, tokens = found[random.integers(len(found))]
    return _before_ranking(module, block, tokens, random) or _behind_selection(module, end, tokens, random)


def _deterministic(select: cst.IndentedBlock) -> list[tuple[cst.IndentedBlock, cst.Return, str]]:
    """Blocks that end in `return tokens, torch.ones(tokens.shape)`, but for those that read everything."""
    found = []
    for site in sites(select):
        block = site.node
        if not isinstance(block, cst.IndentedBlock) or not isinstance(
            block.body[-1], cst.SimpleStatementLine
        ):
            continue
        condition = site.trail[-1] if site.trail else None
        end = block.body[-1].body[-1]
        if not isinstance(end, cst.Return) or (
            isinstance(condition, cst.If) and "length" in code(condition.test)
        ):
            continue
        match end.value:
            case cst.Tuple(
                elements=[cst.Element(value=cst.Name(value=name)), cst.Element(value=probability)]
            ):
                if code(probability) == f"torch.ones({name}.shape)":
                    found.append((block, end, name))
    return found


def _before_ranking(
    module: cst.Module, block: cst.IndentedBlock, tokens: str, random: "Generator"
) -> cst.Module | None:
    """Where `tokens = ranking.topk(kept).indices...` stands just before the end."""
    line = block.body[-2] if len(block.body) > 1 else None
    if not isinstance(line, cst.SimpleStatementLine) or not isinstance(assign := line.body[0], cst.Assign):
        return None
    if code(assign.targets[0].target) != tokens:
        return None
    found = [
        site.node
        for site in sites(assign.value)
        if isinstance(site.node, cst.Attribute)
        and site.node.attr.value == "indices"
        and isinstance(site.node.value, cst.Call)
        and isinstance(site.node.value.func, cst.Attribute)
        and site.node.value.func.attr.value == "topk"
        and len(site.node.value.args) == 1
    ]
    if not found:
        return None
    call = found[0].value
    assert isinstance(call, cst.Call)
    assert isinstance(call.func, cst.Attribute)
    changed, name = _with_function(module, RANKED, "mixed", random)
    taken = names_in(module) | {name}
    chosen, probability = fresh("chosen", taken), fresh("probability", taken)
    mixed = statement(
        f"{chosen}, {probability} = {name}({code(call.func.value)}, {code(call.args[0].value)}, generator)\n"
    )
    spread = {  # both go the same way from there, for example to all query heads of a group
        target: code(replaced_text(assign.value, found[0], target)) for target in (chosen, probability)
    }
    end = statement(f"return {spread[chosen]}, {spread[probability]}\n")
    body = [*block.body[:-2], mixed, end]
    return replaced(changed, {block: block.with_changes(body=body)})


def replaced_text(value: cst.BaseExpression, old: cst.BaseExpression, name: str) -> cst.BaseExpression:
    """`value` in which the variable `name` stands for the part `old`."""
    return cst.Name(name) if value is old else replaced(value, {old: cst.Name(name)})


def _behind_selection(module: cst.Module, end: cst.Return, tokens: str, random: "Generator") -> cst.Module:
    start = "tokens.shape[1]" if random.random() < 0.5 else "{kept}"
    changed, name = _with_function(module, CHOSEN, "with_residual", random, start)
    call = expression(f"{name}({tokens}, cache.length, generator)")
    return replaced(changed, {end: end.with_changes(value=call)})


def _with_function(
    module: cst.Module, text: str, wanted: str, random: "Generator", start: str = ""
) -> tuple[cst.Module, str]:
    changed, share = with_constant(module, "SAMPLED", f"{random.uniform(0.2, 0.7):.2f}")
    if start == "{kept}":
        changed, start = with_constant(changed, "KEPT_FIRST", str(int(2.0 ** random.uniform(2, 5))))
    name = fresh(wanted, names_in(changed))
    return with_definitions(changed, [statement(text.format(name=name, share=share, start=start))]), name
