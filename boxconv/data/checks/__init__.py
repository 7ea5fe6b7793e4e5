"""Faults of a data set, and the checksums of its files."""
