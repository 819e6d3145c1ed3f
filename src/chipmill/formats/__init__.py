"""Bytes: encode and decode side by side, no I/O."""
