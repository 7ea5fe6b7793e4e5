"""Trained networks: opening them, and what they say about images."""
