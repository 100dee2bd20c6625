"""Look for the merge that does best on suites."""
