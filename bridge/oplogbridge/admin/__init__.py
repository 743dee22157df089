"""The admin HTTP server: probes and metrics for machines, a page and its API for people and for our own commands."""
