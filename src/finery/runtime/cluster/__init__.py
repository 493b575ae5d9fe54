"""Runs the child of an attempt on a Ray cluster, over its Jobs API. Never imports ray.

Owns: finding or starting the cluster, submitting, following, stopping, the true cause of a failure, and that nothing
is left behind. Does not own: the run directory's meaning, or what the child does.
"""
