"""Training and evaluating segmentation networks: data, metrics, the training loop, checkpoints, prediction."""
