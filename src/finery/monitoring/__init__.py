"""Monitoring: what happened in a run, as numbers and events that can be asked for.

Owns the metric store (packed blocks keyed by job, attempt, writer, step), stored events, tail offsets,
down-sampling that keeps extremes, and the live stream. Tables: event, metric_block, metric_series, metric_chunk,
tail_offset.
"""
