"""Metrics of the deployments, their processes and the GPUs of this host, in Prometheus' text format."""
