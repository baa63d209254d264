"""What makes training fast, and changes nothing of what is computed: the sparse step, batches, processes."""
