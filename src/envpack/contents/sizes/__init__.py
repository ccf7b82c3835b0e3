"""Where the bytes of an environment are: by package, kind of file, GPU code and duplicates; also as a web page."""
