"""The engine `trl`: TRL's own trainers on one machine, with our data order, sampler, metrics and checkpoints."""
