"""The flows: sentences over tasks."""
