"""HTTP endpoints: whether they answer as they should, how fast, and how long their certificate lasts."""
