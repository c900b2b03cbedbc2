"""A scene behind a PSF or finer pixels: restored through what the forward operator makes of it."""
