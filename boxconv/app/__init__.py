"""A web page on which a trained network is tried with photographs of one's own."""
