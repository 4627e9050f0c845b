"""The LLM proposer: prompts from templates, any OpenAI-compatible model, replies read into programs."""
