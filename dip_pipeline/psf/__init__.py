"""The PSF of a frame: measured on its stars, held against them, and what is sharper than it."""
