"""The discovery loop, the proposers and the command line."""
