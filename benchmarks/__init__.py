"""Benchmarks: ratios against a physical floor in the same run, never a timed test."""
