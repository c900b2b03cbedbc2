"""Exposures that guide many others: noise and stars are found once, not once for each of these."""

from dip_pipeline.config import RunConfig
from dip_pipeline.exposures.keeping import Kept
from dip_pipeline.exposures.light import see_window
from dip_pipeline.frames import Frame
from dip_pipeline.preparing.cutting import Window
from dip_pipeline.preparing.planning import SEEN_BYTES, settle_frame
from dip_pipeline.registration import Seen
from dip_pipeline.sensor import NoiseModel

Settled = tuple[Frame, NoiseModel]
_kept: Kept[Settled] = Kept(128)  # a few kB each but for masks that were found
_seen: Kept[tuple[Settled, Seen]] = Kept(SEEN_BYTES, lambda kept: kept[1].nbytes)


def settle_guide(frame: Frame, config: RunConfig) -> Settled:
    """Do what `settle_frame` does, unless it was done in this process with the same options.

    A file that was changed meanwhile, or its noise plane or mask in another one, is another. Of a
    folder (Zarr) nothing tells that.
    """
    if any(path.is_dir() for path in (frame.path, *frame.companions)):
        return settle_frame(frame, config)
    return _kept.get_or_find(_key_of(frame, config), lambda: settle_frame(frame, config))


def see_guide(frame: Frame, window: Window, noise: NoiseModel, unit: float) -> Seen:
    """Do what `see_window` does, unless it was done for these very objects, and is still kept."""
    # They are kept with what was seen, so that no other object has their ids.
    key = id(frame), id(noise), *((span.start, span.stop) for span in window), unit
    return _seen.get_or_find(key, lambda: ((frame, noise), see_window(frame, window, noise, unit)))[
        1
    ]


def _key_of(frame: Frame, config: RunConfig) -> tuple[object, ...]:
    options = config.model_dump_json(exclude={"task": {"exposures"}, "fit": {"prior", "planes"}})
    files = []
    for path in (frame.path, *frame.companions):
        stat = path.stat()
        files.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return frame.label, options, *files
