"""What a frame says of its own noise: its sky, the noise's correlation, scatter against level."""
