"""What the boxes of a trained network see, and how training moved them."""
