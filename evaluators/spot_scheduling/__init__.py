"""A job before its deadline, on spot or on-demand instances in several regions."""
