"""Attempts to cheat an evaluator, and what came of them."""
