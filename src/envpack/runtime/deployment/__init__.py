"""A destination: what is deployed there, what is kept, and how it is replaced."""
