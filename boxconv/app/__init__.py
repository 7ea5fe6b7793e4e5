"""A web page for trying a trained network with one's own photographs."""
