"""Evaluation: what a model gets right, how sure that is, and whether it beats another.

Owns the job kind `evaluate`, benchmarks (one file each), per-sample results, intervals and paired tests.
"""
