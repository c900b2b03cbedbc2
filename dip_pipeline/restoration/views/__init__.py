"""What the networks see of a frame: regions, crops, features, guides."""
