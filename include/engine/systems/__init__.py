"""Adapters to what the pipeline is made of: siblings that never import each other."""
