"""What a run has to work on: GPUs, devices that fail, memory and disk."""
