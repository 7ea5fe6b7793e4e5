"""What networks cost: parameters, operations, memory and time."""
