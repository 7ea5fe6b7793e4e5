"""Pictures, tables and pages of numbers that others have found."""
