"""Pictures, tables and pages. They show numbers, and compute none."""
