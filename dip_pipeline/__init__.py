"""Restore astronomical images with the deep image prior.

The rooms of the package, from the ground up: `errors`, `sensor`, `flags`; `frames` (files),
`tiling` (geometry), `restoration` (networks), `engine` (scheduling); `config`, `quality`;
`pipeline` (one frame), `batch` (many), `cli` (the `dip` command).
"""

__version__ = "0.1.0"
