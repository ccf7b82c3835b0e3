"""Find the files of an environment and read them."""
