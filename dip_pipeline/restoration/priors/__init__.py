"""Priors: networks fitted to a frame, with the tables that make pixels and errors; stored."""
