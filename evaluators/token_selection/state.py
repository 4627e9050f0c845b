"""A policy's state on its way between processes, as a policy's process packs and unpacks it.

A policy may keep tensors, Index objects, numbers, strings, and lists, tuples and dictionaries of these. They
travel as a tree (JSON) with the tensors and new indices beside it as bytes; what is kept elsewhere is lost.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.cache import Index, KeptIndex, Link, raw_rows


def pack(state: Mapping[str, object], prefix: str) -> dict[str, np.ndarray]:
    """`state` as arrays named with `prefix`. Raises CandidateError for what cannot be kept."""
    arrays: dict[str, np.ndarray] = {}

    def beside(raw: np.ndarray) -> str:
        name = str(len(arrays))
        arrays[prefix + name] = raw
        return name

    def tree(item: object) -> Any:
        match item:
            case KeptIndex():
                return {"kept": item.number}
            case Index():
                shape = list(item.shape)
                return {"index": beside(raw_rows(item.read())), "dtype": _name(item.dtype), "shape": shape}
            case torch.Tensor():
                # numpy has no bfloat16: every tensor travels as its bytes
                raw = item.detach().contiguous().reshape(-1).view(torch.uint8).numpy().copy()
                return {"tensor": beside(raw), "dtype": _name(item.dtype), "shape": list(item.shape)}
            case dict():
                return {"dict": [[tree(key), tree(value)] for key, value in item.items()]}
            case list() | tuple():
                return {type(item).__name__: [tree(element) for element in item]}
            case None | bool() | int() | float() | str():
                return {"plain": item}
        raise CandidateError(
            FailureKind.INTERFACE,
            f"A policy kept a {type(item).__name__} between calls; it may keep tensors, Index objects, "
            "numbers, strings, and lists, tuples or dictionaries of these.",
        )

    text = json.dumps(tree(dict(state)))
    arrays[f"{prefix}tree"] = np.frombuffer(text.encode(), dtype=np.uint8)
    return arrays


def restore(policy_class: Any, arrays: Mapping[str, np.ndarray], prefix: str, link: Link) -> Any:
    """A policy object with the state that the judge sends, made without calling anything of the candidate."""

    def build(node: Any) -> Any:
        match node:
            case {"plain": value}:
                return value
            case {"dict": items}:
                return {build(key): build(value) for key, value in items}
            case {"list": items}:
                return [build(item) for item in items]
            case {"tuple": items}:
                return tuple(build(item) for item in items)
            case {"kept": number, "dtype": dtype, "shape": shape}:
                return KeptIndex(link, number, getattr(torch, dtype), tuple(shape))
        raw, dtype = torch.from_numpy(arrays[prefix + node["tensor"]].copy()), getattr(torch, node["dtype"])
        if not len(raw):  # bytes that are not there cannot be viewed as anything else
            return torch.zeros(node["shape"], dtype=dtype)
        return raw.view(dtype).reshape(node["shape"])

    policy = object.__new__(policy_class)
    vars(policy).update(build(json.loads(bytes(arrays[f"{prefix}tree"]))))
    return policy


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
