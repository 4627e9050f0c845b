"""Which tokens of a language model's KV cache stay, and how they are stored, within a bound on its bytes."""
