"""Opening trained networks, and predicting with them."""
