"""Further exposures of a frame: registered, their light and skies compared."""
