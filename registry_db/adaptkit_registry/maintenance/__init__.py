"""The database as a whole: what gc keeps and purges, counts, and contradictions."""
