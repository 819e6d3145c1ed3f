"""The receiver that training loops talk to."""
