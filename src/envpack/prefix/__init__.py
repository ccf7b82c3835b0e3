"""Reading an existing environment for packing: the owner of each file, and the bytes that are stored of it."""
