"""Road scenes drawn by program, in which only what is far off tells look-alikes apart."""
