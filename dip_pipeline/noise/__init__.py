"""The noise of a frame: what its header says, what its pixels tell, and where they disagree."""
