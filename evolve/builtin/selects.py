"""The `select` of a policy, whichever interface it has."""

import libcst as cst

from evolve.builtin.syntax import block_of, methods, parameters

# Parameters of `select` in the interfaces of policies, and which of them knows its layer.
SELECTS = {
    ("self", "query", "cache", "budget", "generator"): "cache",
    ("self", "query", "cache", "goal", "generator"): "cache",
    ("self", "block", "budget", "generator"): "block",
}


def select_of(module: cst.Module) -> tuple[cst.FunctionDef, cst.IndentedBlock] | None:
    """Policy.select of a decode step, if it has the parameters of an interface, and its body."""
    found = selection_of(module)
    return found[:2] if found is not None and found[2] == "cache" else None


def selection_of(module: cst.Module) -> tuple[cst.FunctionDef, cst.IndentedBlock, str] | None:
    """Policy.select of any interface, its body, and the parameter that knows its layer."""
    select = methods(module).get("select")
    if select is None or parameters(select) not in SELECTS:
        return None
    block = block_of(select)
    return (select, block, SELECTS[parameters(select)]) if block else None


def has_budget(module: cst.Module) -> bool:
    """Whether a program is a policy that selects tokens for a budget."""
    select = select_of(module)
    return select is not None and "budget" in parameters(select[0])


def asked_of(module: cst.Module) -> tuple[str, str]:
    """What a policy is asked for that is small where little is to be read, or missed; and a name for a limit
    of it.
    """
    select = selection_of(module)
    has_goal = select is not None and "goal" in parameters(select[0])
    return ("goal.epsilon", "SMALL_EPSILON") if has_goal else ("budget", "SMALL_BUDGET")


def evicts(module: cst.Module) -> bool:
    """Whether a program is a policy that scores the tokens of a layer's cache."""
    score = methods(module).get("score")
    return score is not None and parameters(score) == ("self", "layer")
