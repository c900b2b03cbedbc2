"""The noise of exposures that guide many others: found once, not once for each of these."""

from collections import OrderedDict
from threading import Lock

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import Frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.sensor import NoiseModel

_MOST_KEPT = 128  # frames, a few kB each but for masks that were found

Settled = tuple[Frame, NoiseModel]
_kept: OrderedDict[tuple[object, ...], Settled] = OrderedDict()
_lock = Lock()


def settle_guide(frame: Frame, config: RunConfig) -> Settled:
    """Do what `settle_frame` does, unless it was done in this process with the same options.

    A file that was changed meanwhile, or its noise plane or mask in another one, is another. Of a
    folder (Zarr) nothing tells that.
    """
    if any(path.is_dir() for path in (frame.path, *frame.companions)):
        return settle_frame(frame, config)
    key = _key_of(frame, config)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    settled = settle_frame(frame, config)
    with _lock:
        _kept[key] = settled
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return settled


def _key_of(frame: Frame, config: RunConfig) -> tuple[object, ...]:
    options = config.model_dump_json(exclude={"task": {"exposures"}, "fit": {"prior", "planes"}})
    files = []
    for path in (frame.path, *frame.companions):
        stat = path.stat()
        files.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return frame.label, options, *files
