"""Restore astronomical images with the deep image prior.

The rooms of the package, from the ground up: `errors`, `flags`, `task`; `sensor` (noise laws in
numbers); `frames` (files), `tiling` (geometry), `restoration` (networks), `engine` (scheduling),
`blind` and `registration` (what pixels tell); `config`, `quality`, `machine`; `account` (what a run
tells of itself); `noise`, `preparing`, `exposures`, `psf` (what is known before a fit); `runs` (the
parts of one run); `pipeline` (the story of one frame), `fitting` (a prior for many); `night` and
`batch` (many frames), `cli` (the `dip` command).
"""

import os

__version__ = "0.1.0"

# Threads of OpenMP that wait by spinning take a core from whoever they wait for: on a machine
# shared with other work a step of a fit is six times slower. Read once, when torch is loaded, so
# it is set here, before any room can load it; a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
