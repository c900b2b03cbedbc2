"""What a user says of how a file is to be read; it outranks what is detected."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """Overrides of the layout; None for what the file says.

    science : HDU or name of HDUs to restore, as in FILE[...]
    error, flags : HDU of the file, or another file, FILE or FILE[...]; "none" for none; before
        `error` its form may stand: sigma:, variance:, ivar: or weight:
    bad_bits : which flags make a pixel bad, names or numbers with "," between them
    grow_px : by how many pixels masks grow
    strict : a wrong check sum is an error
    bayer : filters of a raw mosaic, as RGGB; "none" for none; None for what the cards say
    """

    science: str | None = None
    error: str | None = None
    flags: str | None = None
    bad_bits: str | None = None
    grow_px: int = 0
    strict: bool = False
    bayer: str | None = None


AS_THE_FILE_SAYS = Reading()
