"""A peer's `config.yaml`: what of it has an equivalent here becomes settings, and the rest is named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from evolve.llm.settings import KEY
from kvolve import KvolveError

CONFIG = "config.yaml"


def _same(value: Any) -> Any:
    return value


# key -> setting, and what its value becomes
KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "max_iterations": ("max_evaluations", lambda n: int(n) + 1),  # the initial program is a proposal, too
    "random_seed": ("seed", _same),
    "target_score": ("target_score", _same),
    "early_stopping_patience": ("stagnation", _same),
    "evaluator.timeout": ("wall_s", float),
    "evaluator.parallel_evaluations": ("workers", _same),
    "evaluator.memory_limit_mb": ("memory_gib", lambda mb: float(mb) / 1024),
    "evaluator.cascade_thresholds": ("cascade_thresholds", tuple),
    "database.num_islands": ("islands", _same),
    "prompt.system_message": ("instructions", str),
}
MODEL_KEYS = {"temperature": "temperature", "max_tokens": "max_tokens", "timeout": "timeout_s"}
LLM_KEYS = frozenset({"api_base", "primary_model", "primary_model_weight", "secondary_model"})
LLM_KEYS |= {"secondary_model_weight", "models", *MODEL_KEYS}


def read_config(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings that a config gives, and its keys that have no equivalent.

    Raises KvolveError for a file that is no such config.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KvolveError(f"The config {path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KvolveError(f"The config {path} is not valid YAML: {error}.") from error
    if config is None:
        return {}, []
    if not isinstance(config, dict):
        raise KvolveError(f"The config {path} is not a table of settings.")
    settings: dict[str, Any] = {}
    left: list[str] = []
    for name, value in _flat(config).items():
        if name.startswith("llm.") and name.removeprefix("llm.") in LLM_KEYS:
            continue
        if name in KEYS and value is not None:
            setting, become = KEYS[name]
            try:
                settings[setting] = become(value)
            except (TypeError, ValueError) as error:
                raise KvolveError(
                    f"The config {path} has {name} = {value!r}, which cannot be used."
                ) from error
        elif name not in KEYS and name not in ("evaluator.cascade_evaluation", "database.migration_interval"):
            left.append(name)
    _together(_flat(config), settings)
    if models := _models(config.get("llm")):
        settings["models"] = models
    return settings, left


def _together(config: dict[str, Any], settings: dict[str, Any]) -> None:
    """What several keys decide."""
    if not config.get("evaluator.cascade_evaluation", True):
        settings.pop("cascade_thresholds", None)
    if "wall_s" in settings:
        settings["cpu_s"] = max(1, int(settings["wall_s"]))
    if (interval := config.get("database.migration_interval")) is not None:  # counted per island there
        settings["migration_interval"] = int(interval) * int(settings.get("islands", 1))


def _flat(config: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """All keys of a config, those of tables with a dot."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _models(llm: Any) -> list[dict[str, Any]]:
    """The models of a config, as `[[models]]` of a preset has them."""
    if not isinstance(llm, dict):
        return []
    listed = llm.get("models")
    named = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    for rank in ("primary_model", "secondary_model"):
        if llm.get(rank):
            named.append({"name": llm[rank], "weight": llm.get(f"{rank}_weight", 1)})
    shared = {ours: llm[theirs] for theirs, ours in MODEL_KEYS.items() if llm.get(theirs) is not None}
    models = []
    for one in named:
        model: dict[str, Any] = {"model": one.get("name"), **shared}
        model |= {ours: one[theirs] for theirs, ours in MODEL_KEYS.items() if one.get(theirs) is not None}
        if one.get("weight") is not None:
            model["weight"] = one["weight"]
        if address := one.get("api_base") or llm.get("api_base"):
            model["base_url"] = address
        if os.environ.get(KEY):
            model["api_key_env"] = KEY
        models.append(model)
    return models


def with_files(given: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The settings of a new run on a script: paths in full, and what its config gives beneath what is given.

    Raises KvolveError for a missing file.
    """
    given = dict(given)
    for name, what in (("initial", "program"), ("evaluator", "evaluator")):
        path = Path(str(given.get(name) or ""))
        if not given.get(name) or not path.is_file():
            raise KvolveError(
                f"A script needs a program and an evaluator, but there is no {what} {str(path)!r}. Start it "
                "with kvolve run INITIAL.py EVALUATOR.py."
            )
        given[name] = str(path.resolve())
    given["data"] = [str(Path(path).resolve()) for path in given.get("data", ())]
    config = given.get("config")
    beside = Path(given["evaluator"]).parent / CONFIG
    if config is None and not beside.is_file():
        return given
    path = Path(config).resolve() if config is not None else beside
    settings, left = read_config(path)
    told = ", ".join(f"{name} {_short(value)}" for name, value in settings.items() if name not in given)
    say(f"{path.name} sets {told or 'nothing'}." + (f" Not used: {', '.join(left)}." if left else ""))
    return settings | given | {"config": str(path)}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(str(one.get("model")) for one in value)
    return str(value) if len(str(value)) <= 40 else f"({len(str(value)):,} characters)"
