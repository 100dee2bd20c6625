"""Search: how adapters are best merged, tried out on suites, with Optuna choosing what to try next."""
