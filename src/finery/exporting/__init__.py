"""What runs have logged, in the formats of other trackers: while they run, or on demand."""
