"""Shapes of stars, stars that are shown, and stars that masked pixels hide."""
