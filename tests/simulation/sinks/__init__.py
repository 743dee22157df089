"""Destinations with the semantics of the real ones, each with a client that follows the same steps as the real sink."""
