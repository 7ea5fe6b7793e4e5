"""What the boxes of a trained network see, and how they came there."""
