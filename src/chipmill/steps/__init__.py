"""Verbs: one function for each arrow of the pipeline."""
