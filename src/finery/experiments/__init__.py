"""Experiments: results across jobs. Which evaluation belongs to which job, and whether one beats another.

Owns the list of scores and their paired comparison. Has no tables: results lie in run directories.
"""
