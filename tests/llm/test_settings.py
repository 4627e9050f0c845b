"""Models by preset and by environment; keys stay where they are."""

import pytest
from pydantic import ValidationError

from evolve.llm.settings import LLM, NO_KEY, OPENAI, Model, choose_models
from evolve.proposers import asking
from evolve.settings import make_settings
from kvolve import KvolveError

SECRET = "sk-secret-0123456789"


def model(**given: object) -> Model:
    return Model.model_validate({"model": "m", "base_url": "http://localhost:8080/v1"} | given)


def test_model_is_called_as_the_server_calls_it():
    assert model().name == "m"


def test_environment_alone_gives_a_model():
    environment = {"KVOLVE_LLM_BASE_URL": "http://localhost:8080/v1", "KVOLVE_LLM_MODEL": "qwen"}
    (found,) = choose_models((), environment | {"KVOLVE_LLM_API_KEY": SECRET})
    assert (found.name, found.base_url) == ("qwen", "http://localhost:8080/v1")
    assert found.key({"KVOLVE_LLM_API_KEY": SECRET}) == SECRET


def test_local_server_needs_no_key():
    environment = {"KVOLVE_LLM_BASE_URL": "http://localhost:8080/v1", "KVOLVE_LLM_MODEL": "qwen"}
    assert choose_models((), environment)[0].key(environment) == NO_KEY


def test_key_of_openai_goes_to_openai_only():
    environment = {"OPENAI_API_KEY": SECRET, "KVOLVE_LLM_MODEL": "gpt"}
    assert choose_models((), environment)[0].key(environment) == SECRET
    elsewhere = environment | {"KVOLVE_LLM_BASE_URL": "http://elsewhere/v1"}
    assert choose_models((), elsewhere)[0].key(elsewhere) == NO_KEY
    assert model(base_url="http://elsewhere/v1").key(environment) == NO_KEY
    assert model(base_url=OPENAI).key(environment) == SECRET


def test_key_of_openai_goes_where_the_client_would_send_it():
    environment = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://relay/v1", "KVOLVE_LLM_MODEL": "gpt"}
    (found,) = choose_models((), environment)
    assert (found.base_url, found.key(environment)) == ("http://relay/v1", SECRET)


def test_preset_goes_before_the_environment():
    assert choose_models((model(),), {"KVOLVE_LLM_MODEL": "other"})[0].name == "m"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_key": SECRET}, "keys do not belong into presets"),
        ({"api_key_env": SECRET}, "not the name of an environment variable"),
        ({"base_url": f"https://user:{SECRET}@host/v1"}, "bare address"),
        ({"base_url": f"https://host/v1?key={SECRET}"}, "bare address"),
        ({"base_url": "localhost:8080"}, "no address"),
    ],
)
def test_keys_in_a_preset_are_refused_and_not_repeated(given, message):
    with pytest.raises(KvolveError, match=message) as raised:
        model(**given)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("models", "environment", "message"),
    [
        ((), {}, "No model is given. Set KVOLVE_LLM_MODEL"),
        ((model(), model()), {}, "Two models are called 'm'"),
        ((model(weight=0),), {}, "weight 0"),
        ((model(api_key_env="MY_KEY"),), {}, "environment variable MY_KEY, which is not set"),
        ((model(base_url=OPENAI),), {"MY_KEY": SECRET}, "variable OPENAI_API_KEY, which is not set"),
    ],
)
def test_unusable_models_are_refused(models, environment, message):
    with pytest.raises(KvolveError, match=message):
        choose_models(models, environment)


def test_slash_at_the_end_of_an_address_makes_no_difference():
    assert model(base_url="http://host/v1/").base_url == model(base_url="http://host/v1").base_url


def test_cost_is_by_million_tokens():
    assert model(price_in=2.5, price_out=10).cost_usd(1_000_000, 100_000) == 3.5


def test_unknown_price_costs_nothing_and_is_known_as_such():
    assert model(price_in=2.5).cost_usd(1_000_000, 0) == 2.5
    assert not model(price_in=2.5).is_priced
    assert model().cost_usd(1_000_000, 1_000_000) == 0


def test_environment_gives_what_a_model_may_have():
    environment = {
        "KVOLVE_LLM_MODEL": "m",
        "KVOLVE_LLM_BASE_URL": "http://host/v1",
        "KVOLVE_LLM_TEMPERATURE": "0.7",
        "KVOLVE_LLM_REASONING_EFFORT": "low",
        "KVOLVE_LLM_MAX_TOKENS": "900",
        "KVOLVE_LLM_PRICE_IN": "1",
        "KVOLVE_LLM_PRICE_OUT": "2.5",
    }
    (named,) = choose_models((), environment)
    assert (named.temperature, named.reasoning_effort, named.max_tokens) == (0.7, "low", 900)
    assert named.cost_usd(1_000_000, 1_000_000) == 3.5


@pytest.mark.parametrize(("name", "value"), [("TEMPERATURE", "hot"), ("MAX_TOKENS", "0"), ("PRICE_IN", "-1")])
def test_senseless_value_in_the_environment_is_refused_by_its_name(name, value):
    environment = {
        "KVOLVE_LLM_MODEL": "m",
        "KVOLVE_LLM_BASE_URL": "http://host/v1",
        f"KVOLVE_LLM_{name}": value,
    }
    with pytest.raises(KvolveError, match=rf"KVOLVE_LLM_{name} is '{value}': Input should be"):
        choose_models((), environment)


def test_no_more_replies_are_evaluated_than_asked_for():
    with pytest.raises(ValidationError, match="'m' is at most 'k'"):
        LLM.model_validate({"k": 2, "m": 3})


def test_an_inbox_asks_for_each_reply_once():
    with pytest.raises(KvolveError, match=r"'llm\.k' is 2, but an inbox"):
        make_settings({"problem": "token_selection", "proposer": "inbox", "llm": {"k": 2}})


@pytest.mark.parametrize(("strategy", "every"), [("map_elites", 40), ("best_of_n", 0), ("hill_climb", 0)])
def test_baselines_are_not_told_of_the_elites(strategy, every):
    settings = make_settings({"problem": "token_selection", "strategy": strategy})
    assert asking(settings).explain_every == every


@pytest.mark.parametrize(
    "given", [{"operators": {"crossover": 1}}, {"operators": {"rewrite": -1, "diff": 3}}]
)
def test_some_operator_has_to_be_possible_always(given):
    with pytest.raises(ValidationError, match="'rewrite' or 'diff'"):
        LLM.model_validate(given)


def test_settings_show_no_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    assert SECRET not in repr(model(api_key_env="MY_KEY")) + model(api_key_env="MY_KEY").model_dump_json()
