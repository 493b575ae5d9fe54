"""Runs of other trackers, read from what they left on disk; nothing here writes or needs their software."""
