"""The tasks: names, retries and limits around library steps."""
