"""Checking a data set for faults, and drafting its class table."""
