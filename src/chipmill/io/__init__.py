"""Edges: values in, values out; errors of others are translated here."""
