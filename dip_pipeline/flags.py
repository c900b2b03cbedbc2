"""Flags of restored pixels, as written into the DIP_FLAG plane."""

from enum import IntFlag


class PixelFlag(IntFlag):
    """Why a restored pixel is not like the others; bits of one uint8."""

    FILLED = 1  # was masked; filled from its surroundings
    LOW_CONFIDENCE = 2  # restored, but with little information behind it
    TILE_FAILED = 4  # the tile's fit failed; the input pixel was copied
    SATURATED = 8  # at or above saturation; the input pixel was left alone


FLAG_MEANINGS: dict[PixelFlag, str] = {
    PixelFlag.FILLED: "masked, filled from its surroundings",
    PixelFlag.LOW_CONFIDENCE: "low confidence",
    PixelFlag.TILE_FAILED: "tile failed, input copied",
    PixelFlag.SATURATED: "saturated, left alone",
}
