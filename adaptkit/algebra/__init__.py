"""The algebra of updates D = s·B·A: factors, spaces, sparsifying, losses. Public, for merge strategies."""
