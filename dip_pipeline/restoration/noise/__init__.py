"""Noise laws: likelihood, sampling, correlation, independent copies."""
