"""Rows side by side: comparisons, verdicts in words, tables."""
