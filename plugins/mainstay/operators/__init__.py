"""The verbs as tasks: each operator calls the engine once, and returns a small summary."""
