"""What lies between a scene and its observations: PSF, warps, decimation, as linear operators."""
