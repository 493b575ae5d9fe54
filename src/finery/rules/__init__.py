"""Rules that watch a run and act: what they are, when they fire, and what that asks for."""
