"""Own files of a bundle: the application's code and other files that no package owns, in groups of their own."""
