"""Where embeddings come from and how they are kept: stores, one's own arrays, real and embedded worlds."""
