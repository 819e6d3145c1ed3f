"""Nouns: values without I/O."""
