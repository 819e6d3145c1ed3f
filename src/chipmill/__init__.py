"""chipmill: satellite and aerial scenes into training batches."""
