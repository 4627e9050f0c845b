"""Which models are asked, and how: `[[models]]` and `[llm]` of a preset, or the environment.

A key is never a setting: a model names the environment variable that holds it.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kvolve import KvolveError

OPENAI = "https://api.openai.com/v1"
BASE_URL, MODEL, KEY = "KVOLVE_LLM_BASE_URL", "KVOLVE_LLM_MODEL", "KVOLVE_LLM_API_KEY"
# settings of the model that the environment names, by variable
VARIABLES = {
    "KVOLVE_LLM_TEMPERATURE": "temperature",
    "KVOLVE_LLM_REASONING_EFFORT": "reasoning_effort",
    "KVOLVE_LLM_MAX_TOKENS": "max_tokens",
    "KVOLVE_LLM_PRICE_IN": "price_in",
    "KVOLVE_LLM_PRICE_OUT": "price_out",
}
NO_KEY = "none"  # the client insists on a key; a local server does not look at it

OperatorName = Literal["rewrite", "diff", "crossover", "plan", "repair", "simplify"]


class Model(BaseModel):
    """One model of the ensemble, with the limits that its calls keep."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    model: str = Field(min_length=1, description="as the server calls it")
    name: str = Field(default="", description="as reports call it; by default like `model`")
    base_url: str = OPENAI
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key")
    temperature: float | None = Field(default=None, ge=0, le=2, description="by default, that of the server")
    reasoning_effort: str | None = Field(default=None, description="by default, that of the server")
    max_tokens: int = Field(default=8192, ge=1, description="of one reply, its reasoning among them")
    timeout_s: float = Field(default=600, gt=0, description="for a whole reply")
    concurrency: int = Field(default=4, ge=1, description="calls at a time")
    weight: float = Field(default=1, ge=0, description="how often it is chosen, beside the others")
    price_in: float | None = Field(default=None, ge=0, description="USD per million tokens of prompts")
    price_out: float | None = Field(default=None, ge=0, description="USD per million tokens of replies")

    @model_validator(mode="before")
    @classmethod
    def _keeps_keys_out(cls, given: Any) -> Any:
        """Raises KvolveError, which unlike pydantic's errors shows no value, for what may be a key."""
        if not isinstance(given, dict):
            return given
        if "api_key" in given:
            raise KvolveError(
                "A model has the setting 'api_key', but keys do not belong into presets. Put the key into an "
                "environment variable, and give the name of that variable as 'api_key_env'."
            )
        variable = given.get("api_key_env")
        if variable is not None and not re.fullmatch(r"[A-Za-z_]\w*", str(variable), re.ASCII):
            raise KvolveError(
                "The setting 'api_key_env' is not the name of an environment variable. Put the key into a "
                "variable such as MY_KEY, and give 'MY_KEY' here."
            )
        address = given.get("base_url", OPENAI)
        _check_address(address)
        return {"name": given.get("model", "")} | given | {"base_url": str(address).rstrip("/")}

    @property
    def is_priced(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def cost_usd(self, tokens_in: int, tokens_out: int) -> float:
        """What a call costs; 0 where the prices are unknown."""
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6

    @property
    def key_variable(self) -> str | None:
        """The environment variable that holds the key; None if there is no key."""
        # The usual variable is meant for its own host only: no other is to see that key.
        return self.api_key_env or ("OPENAI_API_KEY" if self.base_url == OPENAI else None)

    def key(self, environment: Mapping[str, str]) -> str:
        """The key to send. Raises KvolveError when its variable is not set."""
        variable = self.key_variable
        if variable is None:
            return NO_KEY
        if not environment.get(variable):
            raise KvolveError(
                f"The key of the model {self.name!r} is looked for in the environment variable {variable}, "
                "which is not set. Set it, or correct 'api_key_env'."
            )
        return environment[variable]


class LLM(BaseModel):
    """How models are asked for proposals, whichever they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    operators: dict[OperatorName, float] = Field(
        default={
            "rewrite": 0.3,
            "diff": 0.3,
            "crossover": 0.15,
            "plan": 0.1,
            "repair": 0.1,
            "simplify": 0.05,
        },
        description="weights",
    )
    choice: Literal["bandit", "weights"] = Field(
        default="bandit", description="what decides on model and operator: what paid lately, or weights alone"
    )
    explain_every: int = Field(
        default=40, ge=0, description="proposals between two looks at what elites have in common; 0 is never"
    )
    k: int = Field(default=1, ge=1, le=64, description="replies that are asked for with one prompt")
    m: int = Field(default=1, ge=1, le=64, description="how many of them are evaluated")
    keep: Literal["least", "first"] = Field(
        default="least", description="which: those that show the least overthinking, or the first ones"
    )
    polish: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="share of the proposals in which the built-in tuner polishes constants of new elites",
    )
    tries: int = Field(default=2, ge=0, le=10, description="how often a reply may be sent back")
    give_up_s: float = Field(default=1800, gt=0, description="how long a dead endpoint is waited for")

    @model_validator(mode="after")
    def _has_weights(self) -> "LLM":
        weights = self.operators
        if any(weight < 0 for weight in weights.values()) or not weights.get("rewrite", 0) + weights.get(
            "diff", 0
        ):
            # crossover needs a second parent, repair a failure: something has to be possible without them
            raise ValueError("weights are not negative, and 'rewrite' or 'diff' has one above 0")
        if self.m > self.k:
            raise ValueError(f"'m' is at most 'k' (which is {self.k}): of k replies, m are evaluated")
        return self


def choose_models(given: tuple[Model, ...], environment: Mapping[str, str]) -> tuple[Model, ...]:
    """The models of the preset; without any, the one that the environment names.

    Raises KvolveError when there is none, when two have one name, or when a key is missing.
    """
    models = given or (_model_of(environment),)
    names = [model.name for model in models]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise KvolveError(f"Two models are called {double!r}. Give each of them a 'name' of its own.")
    if not any(model.weight for model in models):
        raise KvolveError("All models have the weight 0. Give at least one of them a 'weight' above 0.")
    for model in models:
        model.key(environment)
    return models


def _model_of(environment: Mapping[str, str]) -> Model:
    if not environment.get(MODEL):
        raise KvolveError(
            f"No model is given. Set {MODEL} and, for any server but OpenAI's, {BASE_URL} (such as "
            f"http://127.0.0.1:8080/v1) and {KEY}; or add [[models]] to a preset."
        )
    usual = environment.get("OPENAI_BASE_URL") or OPENAI  # as the client does
    address = environment.get(BASE_URL) or usual
    variable = "OPENAI_API_KEY" if address == usual and environment.get("OPENAI_API_KEY") else None
    variable = KEY if environment.get(KEY) else variable
    given = {name: environment[key] for key, name in VARIABLES.items() if environment.get(key)}
    usual_settings = {"model": environment[MODEL], "base_url": address, "api_key_env": variable}
    try:
        return Model.model_validate(usual_settings | given)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = next(key for key, setting in VARIABLES.items() if setting == wrong["loc"][0])
        raise KvolveError(f"{name} is {wrong['input']!r}: {wrong['msg']}.") from error


def _check_address(address: Any) -> None:
    try:
        parts = urlsplit(str(address))
        good = parts.scheme in ("http", "https") and parts.hostname is not None
        secret = parts.username is not None or parts.password is not None or parts.query
    except ValueError:
        good, secret = False, ""
    if secret:
        raise KvolveError(
            "A base_url holds a user name, a password or a query. Give the bare address, and the key in the "
            "variable that 'api_key_env' names."
        )
    if not good:
        raise KvolveError(f"The base_url {address!r} is no address. Give one like http://127.0.0.1:8080/v1.")
