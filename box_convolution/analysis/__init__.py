"""Looking at networks and runs: what they cost, what their boxes see, pictures and reports."""
