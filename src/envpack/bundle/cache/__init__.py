"""The segment cache: compressed segments of earlier bundles, reused in the next one."""
