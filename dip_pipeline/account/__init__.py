"""What is told of a run: its record, its cards, its account, and products made earlier."""
