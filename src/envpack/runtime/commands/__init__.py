"""One module for each thing that is done with bundles and deployments."""
