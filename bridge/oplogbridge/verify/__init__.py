"""Comparing what a destination holds with what the source shows. Pure; whoever reads both stands at the rim (`cli`)."""
