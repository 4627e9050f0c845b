"""Placement and replication of the experts of a mixture of experts over GPUs."""
