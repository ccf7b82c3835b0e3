"""Known vulnerabilities of the packages in an environment, from a database of advisories on disk."""
