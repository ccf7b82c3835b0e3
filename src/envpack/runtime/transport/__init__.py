"""Read bytes by offset, wherever they come from: a file, a pipe, a server."""
