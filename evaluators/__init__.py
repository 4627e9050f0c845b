"""The problems: what a candidate must do, and how good it is."""
