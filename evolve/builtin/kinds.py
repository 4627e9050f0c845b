"""What the local variables of a policy hold, tracked as far as mutation needs it."""

from collections.abc import Mapping
from enum import Enum

import libcst as cst

from evolve.builtin.syntax import code, sites


class Kind(Enum):
    """What an expression gives."""

    NUMBER = "a Python number"
    NUMERIC = "a number, or an array of numbers"
    FLOAT = "a tensor of real numbers"
    POSITIVE = "a tensor of real numbers >= 0"
    WHOLE = "a tensor of integers or truth values"
    OTHER = "anything else, or unknown"


REAL = (Kind.FLOAT, Kind.POSITIVE)
GIVES_POSITIVE = frozenset(
    [
        "softmax",
        "sigmoid",
        "exp",
        "exp2",
        "abs",
        "square",
        "sqrt",
        "norm",
        "var",
        "std",
        "rand",
        "rand_like",
        "ones",
        "ones_like",
    ]
)
GIVES_FLOAT = frozenset(
    [
        "float",
        "half",
        "log",
        "log1p",
        "log2",
        "tanh",
        "cos",
        "sin",
        "rsqrt",
        "logsumexp",
        "randn",
        "randn_like",
        "linspace",
        "keys",
        "values",
        "key_channels",
        "scores",
        "zeros",
        "zeros_like",
        "full",
        "full_like",
        "logcumsumexp",
        "neg",
        "sub",
    ]
)
GIVES_WHOLE = frozenset(
    [
        "long",
        "int",
        "argsort",
        "argmax",
        "argmin",
        "arange",
        "randperm",
        "bincount",
        "searchsorted",
        "indices",
        "bool",
        "nonzero",
        "eq",
        "lt",
        "le",
        "gt",
        "ge",
    ]
)
KEEPS = frozenset(
    [
        "clip",
        "copy",
        "array",
        "asarray",
        "tolist",
        "sort",
        "sum",
        "mean",
        "amax",
        "amin",
        "view",
        "reshape",
        "transpose",
        "permute",
        "gather",
        "repeat_interleave",
        "expand",
        "expand_as",
        "flatten",
        "squeeze",
        "unsqueeze",
        "contiguous",
        "clone",
        "clamp",
        "topk",
        "values",
        "cumsum",
        "roll",
        "cat",
        "stack",
        "maximum",
        "minimum",
        "where",
        "index_select",
        "take_along_dim",
        "scatter_add",
        "repeat",
        "tile",
        "flip",
        "unfold",
        "pow",
        "clamp_min",
        "clamp_max",
        "masked_fill",
        "T",
        "mT",
    ]
)
GIVES_NUMBER = frozenset(["len", "min", "max", "affordable", "item", "abs", "round", "sum"])
FIELDS_NUMBER = frozenset(
    ["length", "kv_heads", "heads", "head_size", "layer", "layers", "shape", "spent", "row_bytes", "ndim"]
)

AT_START: Mapping[str, Kind] = {
    "query": Kind.FLOAT,
    "keys": Kind.FLOAT,
    "budget": Kind.NUMBER,
    "cache": Kind.OTHER,
    "generator": Kind.OTHER,
    "self": Kind.OTHER,
}


def kind_of(node: cst.BaseExpression, known: Mapping[str, Kind]) -> Kind:
    """The kind of an expression, given the kinds of variables."""
    match node:
        case cst.Name(value=name):
            return known.get(name, Kind.NUMBER if name.isupper() else Kind.OTHER)
        case cst.Integer() | cst.Float():
            return Kind.NUMBER
        case cst.BinaryOperation():
            return _of_operation(node, known)
        case cst.UnaryOperation(expression=inner):
            inside = kind_of(inner, known)
            return Kind.FLOAT if inside is Kind.POSITIVE else inside
        case cst.Comparison():
            return Kind.WHOLE
        case cst.Subscript(value=inner):
            return kind_of(inner, known)
        case cst.Attribute(attr=cst.Name(value=name), value=inner):
            if name in FIELDS_NUMBER:
                return Kind.NUMBER
            return Kind.WHOLE if name == "indices" else kind_of(inner, known) if name in KEEPS else Kind.OTHER
        case cst.Call():
            return _of_call(node, known)
    return Kind.OTHER


def _of_operation(node: cst.BinaryOperation, known: Mapping[str, Kind]) -> Kind:
    kinds = {kind_of(node.left, known), kind_of(node.right, known)}
    if isinstance(node.operator, cst.MatrixMultiply):
        return Kind.POSITIVE if kinds == {Kind.POSITIVE} else Kind.FLOAT
    if Kind.FLOAT in kinds or (Kind.POSITIVE in kinds and isinstance(node.operator, cst.Subtract)):
        return Kind.FLOAT
    if Kind.POSITIVE in kinds:
        return Kind.POSITIVE if kinds <= {Kind.POSITIVE, Kind.NUMBER, Kind.WHOLE} else Kind.FLOAT
    if Kind.WHOLE in kinds:
        return Kind.FLOAT if isinstance(node.operator, cst.Divide) else Kind.WHOLE
    if kinds == {Kind.NUMBER}:
        return Kind.NUMBER
    # lists and texts can be added and repeated, but neither divided, subtracted nor raised
    numeric = isinstance(node.operator, cst.Subtract | cst.Divide | cst.Power) or Kind.NUMERIC in kinds
    return Kind.NUMERIC if numeric else Kind.OTHER


def _of_call(node: cst.Call, known: Mapping[str, Kind]) -> Kind:
    if isinstance(node.func, cst.Name):
        return (
            Kind.NUMBER
            if node.func.value in GIVES_NUMBER or node.func.value in ("int", "float")
            else Kind.OTHER
        )
    if not isinstance(node.func, cst.Attribute):
        return Kind.OTHER
    name, owner = node.func.attr.value, node.func.value
    if name == "affordable":
        return Kind.NUMBER
    of_library = code(owner) in ("torch", "np", "numpy")
    if code(owner) == "math":
        return Kind.NUMBER
    if name in KEEPS and not (of_library and not node.args) and code(owner) != "cache":
        first = node.args[0].value if of_library else owner
        if isinstance(first, cst.List | cst.Tuple) and first.elements:
            first = first.elements[0].value
        return kind_of(first, known)
    for names, kind in (
        (GIVES_POSITIVE, Kind.POSITIVE),
        (GIVES_FLOAT, Kind.FLOAT),
        (GIVES_WHOLE, Kind.WHOLE),
    ):
        if name in names:
            return kind
    return Kind.OTHER


def kinds_in(block: cst.IndentedBlock, given: Mapping[str, Kind] = AT_START) -> dict[str, Kind]:
    """The kinds of the variables that a function body binds; of several assignments the last one counts.

    `given` are those of the parameters.
    """
    known = dict(given)
    for site in sites(block):
        if isinstance(site.node, cst.Assign) and isinstance(target := site.node.targets[0].target, cst.Name):
            known[target.value] = kind_of(site.node.value, known)
        elif isinstance(site.node, cst.For) and isinstance(site.node.target, cst.Name):
            counts = isinstance(site.node.iter, cst.Call) and code(site.node.iter.func) == "range"
            known[site.node.target.value] = Kind.NUMBER if counts else Kind.OTHER
    return known
