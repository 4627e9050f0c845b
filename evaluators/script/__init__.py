"""Problem `script`: a user's own program, scored by the user's own evaluator."""
