"""What the export target `mindrlhf` writes: a layout over cards, configurations, scripts."""
