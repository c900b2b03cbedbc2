"""The loops that fit networks, and when they stop."""
