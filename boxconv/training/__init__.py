"""Training and evaluation of a network: the loop, its steps, several processes, checkpoints, metrics."""
