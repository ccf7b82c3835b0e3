"""Find the prefix in the bytes of files, and put a placeholder in its place."""
