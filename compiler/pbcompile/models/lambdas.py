"""Lambda layers: what their stored code says, read as data and never run, and which steps would do the same."""
