"""One proposal of a real model. Only where the environment names one, for example a local llama.cpp:

llama-server --hf-repo Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF --port 8080 --ctx-size 16384
KVOLVE_LLM_BASE_URL=http://127.0.0.1:8080/v1 KVOLVE_LLM_MODEL=qwen python -m pytest tests/llm
"""

import os
from functools import partial

import pytest

from evaluators.problem import get_problem
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.settings import LLM, choose_models
from evolve.llm.transport import Transport
from evolve.proposer import Parent
from evolve.proposers import objections_of
from tests.llm.conftest import propose

NAMED = bool(os.environ.get("KVOLVE_LLM_BASE_URL") and os.environ.get("KVOLVE_LLM_MODEL"))


@pytest.mark.skipif(not NAMED, reason="KVOLVE_LLM_BASE_URL and KVOLVE_LLM_MODEL name no model")
def test_real_model_makes_a_proposal(archive, said):
    problem = get_problem("token_selection")
    models = choose_models((), os.environ)
    (seed,) = [seed for seed in problem.seeds() if seed.name == "streaming_llm"]
    proposer = LLMProposer(
        archive,
        answers=Transport(models, said.append, give_up_s=60),
        prompts=Prompts(problem.interface),
        models=models,
        settings=LLM.model_validate({"operators": {"rewrite": 1}}),
        objections=partial(objections_of, language=problem.language),
    )
    draft = propose(proposer, parents=(Parent("a", seed.source, 0.61, "Layer 0 has the largest error."),))
    calls = archive.calls(3)
    assert calls
    assert all(call.tokens_in > 100 and call.reply for call in calls)
    assert "class Policy" in draft.source
