"""Read and verify a bundle: its head, its frames, the entries in them."""
