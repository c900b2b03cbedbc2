"""The networks, how their weights take steps, and the published recipe."""
