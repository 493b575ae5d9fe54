"""Training: algorithms as specs, rewards, and the engines that run them.

Owns the job kind `train`. An engine is named by a string and imported in the child only, so that the platform's own
processes never import torch.
"""
