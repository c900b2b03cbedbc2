"""How torch computes here: threads, memory, settings that repeat; loads no torch by itself."""
