"""How a table is laid out as prompts, so that a prefix cache serves as many of their tokens as possible."""
