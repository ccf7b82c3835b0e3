"""Helpers of tests: environments, bundles, servers, shells and hosts."""
