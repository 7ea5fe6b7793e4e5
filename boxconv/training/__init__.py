"""Training and scoring a network: the loop, one step, several processes, checkpoints, metrics."""
