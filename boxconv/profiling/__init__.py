"""Measuring the cost of networks: parameters, operations, memory and time."""
