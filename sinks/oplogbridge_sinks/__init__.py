"""Sinks, one file each. Importing one never imports another's client."""
