"""Experiments: results across jobs. Which evaluation belongs to which job, and whether one beats another.

Owns the list of scores and their paired comparison, and the checkpoints of a job over time. Table: checkpoint_score;
all else lies in run directories.
"""
