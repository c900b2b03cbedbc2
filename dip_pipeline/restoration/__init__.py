"""Restore one tile, or fit the prior of a frame; knows nothing of files or schedulers.

Nothing is imported here: modules of numbers and plain values load without torch.
"""
