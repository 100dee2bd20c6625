"""How adapters compare, side by side: what `diff` and `plot` show."""
