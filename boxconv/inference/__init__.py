"""Trained networks: how they are opened, and their predictions."""
