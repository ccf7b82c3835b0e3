"""The content-addressed store of segments that deployments on this host share."""
