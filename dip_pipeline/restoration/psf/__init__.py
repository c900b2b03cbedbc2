"""PSFs: measured on the stars of a frame, tested against them, and stars seen through them."""
