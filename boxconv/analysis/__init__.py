"""Analysis of trained networks: what their boxes see, and how training moved them."""
