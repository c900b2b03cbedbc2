"""From what the networks say to what is delivered: averages, flux, errors, filled pixels."""
