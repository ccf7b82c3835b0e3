"""The contents of bundles and deployments, for people and other programs: what is in them, and what changed."""
