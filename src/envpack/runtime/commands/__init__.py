"""The operations on bundles and deployments, one module for each."""
