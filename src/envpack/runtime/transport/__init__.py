"""Sources of bytes, read by offset: a file, a pipe, or a file on a server."""
