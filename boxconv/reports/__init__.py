"""Pictures, tables and pages of results that are computed elsewhere."""
