"""What can go wrong, by class; every message says what was given, what was needed, what to do."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the `dip` command tells its caller."""

    OK = 0
    FRAMES_FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class DipError(Exception):
    """Base of every error a user may meet; shown as one line, never as a traceback."""


class ConfigError(DipError):
    """An option or a configuration file that cannot be used."""


class NoFramesError(ConfigError):
    """Names by which no frame is found: there may be some later."""


class FrameError(DipError):
    """An input that cannot be read, or is not an image to restore."""


class EmptyFrameError(FrameError):
    """An image that can be read, and holds nothing to restore: too small, masked, constant."""


class SensorError(DipError):
    """The sensor's noise is needed and not known, or cannot be true."""


class OutputError(DipError):
    """An output that cannot or must not be written."""


class ExistsError(OutputError):
    """An output that exists already and was not to be replaced."""


class DiskFullError(OutputError):
    """An output for which there is no room."""


class RunError(DipError):
    """A run directory that cannot be used, or a worker that failed for good."""


class BrokenProcessError(RunError):
    """A process that can compute no further, whatever it is given: another one must go on."""


class StoppedError(RunError):
    """Work that somebody stopped: nothing is wrong with it, and the same command goes on."""


class GpuMemoryError(RunError):
    """A GPU whose memory does not hold what it is asked for."""


class PriorError(DipError):
    """A prior file that cannot be used: damaged, of another version, or not for this frame."""


class RestorationError(DipError):
    """A fit that cannot be started with what it was given."""


class DivergedError(RestorationError):
    """A fit whose numbers ran away: another seed may do."""


class ExposureError(DipError):
    """Exposures that cannot be combined: of another sky, filter, scale or unit."""


class ContradictionError(ExposureError):
    """An exposure that does not show what another one shows: under clouds, or of another place."""
