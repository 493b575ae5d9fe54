"""Compute calculator: memory, speed and cost of a training job before a device is rented. Pure: it loads no model."""
