"""The tasks: what is made of a frame."""

from enum import StrEnum


class Task(StrEnum):
    """What is made of a frame."""

    DENOISE = "denoise"
    SUPER_RESOLVE = "super-resolve"
    INPAINT = "inpaint"
    DECONVOLVE = "deconvolve"
    COMBINE = "combine"
