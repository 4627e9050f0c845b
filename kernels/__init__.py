"""Triton attention kernels with their references, and `library/`: exported discoveries.

Nothing here imports the rest of the project, so that each file can be copied out and used alone.
"""

# An optional package of the model hub has this name too. `transformers` parses the version of whatever is
# called `kernels`, and leaves it alone below a minimum (0.10.2 for transformers 5.2). An editable install
# hides the version of the distribution; without one here, `transformers` would then raise InvalidVersion.
__version__ = "0.0.0"
