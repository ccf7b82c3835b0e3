"""What several tests use: environments, bundles, servers, shells and hosts."""
