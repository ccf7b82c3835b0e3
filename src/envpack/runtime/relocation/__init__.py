"""Write a prefix into the bytes of files, and take it out again."""
