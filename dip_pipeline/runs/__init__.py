"""The run of one frame, part by part: what is read, fitted, restored, blended, written."""
