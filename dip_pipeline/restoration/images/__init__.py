"""Arithmetic of images: smoothing, blocks, borders, filling, sums that keep the flux."""
