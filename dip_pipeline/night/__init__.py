"""The frames of a night beside each other: grouped, judged, told on one page."""
