"""Evaluation: suites of prompts, scores, the matrix of adapters and suites, and what was forgotten."""
