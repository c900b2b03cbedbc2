"""Damage real files and read them: no traceback, no hang, no memory beyond a limit.

    python -m benchmarks.fuzz FOLDER --cases 2000 --seed 1

Every case flips one to sixteen bytes of a file, or cuts it, and then opens it, reads every pixel,
and writes a product. Allowed are a named error, or the pixels that the bytes on disk hold, by an
independent reader (astropy) or, where that gives up, by the offsets of the undamaged file.
"""

import argparse
import json
import logging
import multiprocessing
import queue
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.memory import peak_bytes

FILES = (
    "ccd/a8280271.fits",
    "mef/gmos.fits",
    "mef/test0.fits",
    "compressed/m13_rice.fits",
    "compressed/m13_hcomp.fits",
    "compressed/m13_gzip.fits",
    "poisson/p4a_image2.fits",
    "ccd_calib_set/kelt-16-b-C084-r.fit.gz",
    "multi_band_decam/c4d_150110_053718_ooi_z_ls9.S4.fits",
    "wcs/sip-wcs.fit",
)
MOST_SECONDS = 10.0
MOST_BYTES = 1 << 30
_BATCH = 100
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """How one case ended; ending: read, refused, wrong, traceback, hang, memory."""

    name: str
    number: int
    ending: str
    detail: str
    seconds: float
    peak_bytes: int


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip some bytes, or cut; half of the flips hit the headers, where they hurt most."""
    if rng.random() < 0.25:
        return content[: int(rng.integers(0, len(content)))]
    out = bytearray(content)
    reach = min(len(out), 2880 * 4) if rng.random() < 0.5 else len(out)
    for _ in range(int(rng.integers(1, 17))):
        out[int(rng.integers(0, reach))] ^= int(rng.integers(1, 256))
    return bytes(out)


def run_case(path: Path, whole: Path, folder: Path) -> tuple[str, str]:
    """Open, read, write and read again; returns how it ended, in a word and a line."""
    from dip_pipeline.errors import DipError
    from dip_pipeline.frames import Provenance, RestoredPlanes, open_frame, save_frame

    try:
        frame = open_frame(path)
        pixels = frame.read(slice(None), slice(None))
        frame.overscan_level()
        error = np.ones(frame.shape, np.float32)
        planes = RestoredPlanes(np.nan_to_num(pixels.science), error, np.zeros(frame.shape, "u1"))
        told = Provenance((("DIPRUN", "fuzz", ""),), "fuzz", {"fuzz": 1}, [])
        save_frame(folder / "out.fits", frame, planes, provenance=told, overwrite=True)
        open_frame(folder / "out.fits").read(slice(None), slice(None))
    except DipError as error:
        return "refused", f"{type(error).__name__}: {error}"
    expected = independent(path, frame.shape)
    choices = [expected] if expected is not None else by_offsets(path, whole, frame.shape)
    right = any(np.array_equal(pixels.science, choice, equal_nan=True) for choice in choices)
    if choices and not right:
        return "wrong", f"{int(np.sum(pixels.science != choices[0]))} pixels differ"
    return "read", "" if choices else "no other reader reads it"


def by_offsets(path: Path, whole: Path, shape: tuple[int, int]) -> list[np.ndarray]:
    """Pixels of the damaged bytes, where and how the undamaged headers say: of every such image."""
    content = path.read_bytes()
    found = []
    with fits.open(whole, memmap=False, do_not_scale_image_data=True) as hdus:
        for hdu in hdus:
            header, place = hdu.header, hdu.fileinfo()["datLoc"]
            if isinstance(hdu, (fits.BinTableHDU, fits.CompImageHDU)) or hdu.shape != shape:
                continue
            kind = np.dtype(fits.hdu.image.BITPIX2DTYPE[header["BITPIX"]]).newbyteorder(">")
            stored = np.frombuffer(content, kind, shape[0] * shape[1], place).reshape(shape)
            values = stored.astype(np.float64)
            plane = values * header.get("BSCALE", 1.0) + header.get("BZERO", 0.0)
            if "BLANK" in header:
                plane[stored == header["BLANK"]] = np.nan
            with np.errstate(all="ignore"):
                plane = plane.astype(np.float32)
            plane[~np.isfinite(plane)] = np.nan
            found.append(plane)
    return found


def independent(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Physical pixels by astropy: of SCI, or of the first image; None where it cannot."""
    kinds = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            images = [h for h in hdus if isinstance(h, kinds) and len(h.shape or ()) >= 2]
            images = [hdu for hdu in images if 0 not in hdu.shape]
            named = [hdu for hdu in images if hdu.name == "SCI"]
            first = [hdu for hdu in named if hdu.ver == 1] or named or images
            data = np.squeeze(np.asarray(first[0].data))
            if data.shape != shape:
                return None
            with np.errstate(all="ignore"):
                plane = data.astype(np.float32)
            plane[~np.isfinite(plane)] = np.nan
            return plane
    except Exception:  # noqa: BLE001  (whatever another reader raises on broken files)
        return None


def _work(jobs: Sequence[tuple[int, Path, Path]], folder: Path, results: Any) -> None:  # noqa: ANN401
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    for number, path, whole in jobs:
        started = time.monotonic()
        try:
            ending, detail = run_case(path, whole, folder)
        except MemoryError:
            ending, detail = "memory", "MemoryError"
        except BaseException as error:  # noqa: BLE001  (that is what is looked for)
            where = traceback.extract_tb(error.__traceback__)[-1]
            ending = "traceback"
            detail = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        results.put((number, ending, detail, time.monotonic() - started, peak_bytes()))


def run_all(folder: Path, cases: int, seed: int, files: Sequence[str] = FILES) -> Iterator[Case]:
    """Run so many cases, in processes that are watched."""
    with tempfile.TemporaryDirectory() as scratch:
        for first in range(0, cases, _BATCH):
            names: dict[int, str] = {}
            jobs = []
            for number in range(first, min(first + _BATCH, cases)):
                name = names[number] = files[number % len(files)]
                path = Path(scratch) / f"{number:06d}{''.join(Path(name).suffixes[-2:])}"
                rng = np.random.default_rng([seed, number])
                path.write_bytes(damaged((folder / name).read_bytes(), rng))
                jobs.append((number, path, folder / name))
            while jobs:
                done = list(_watched(jobs, Path(scratch)))
                for number, ending, detail, seconds, peak in done:
                    if peak > MOST_BYTES:
                        ending, detail = "memory", f"peak {peak >> 20} MiB"
                    yield Case(names[number], number, ending, detail, seconds, peak)
                jobs = jobs[len(done) :]
            for path in Path(scratch).iterdir():
                path.unlink()


def _watched(
    jobs: Sequence[tuple[int, Path, Path]], folder: Path
) -> Iterator[tuple[int, str, str, float, int]]:
    """Give the endings of the jobs in their order, up to one that hangs, or ends the process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_work, args=(jobs, folder, results))
    process.start()
    patience = _START_SECONDS
    for number, _, _ in jobs:
        try:
            yield results.get(timeout=MOST_SECONDS + patience)
        except queue.Empty:
            ending = "hang" if process.is_alive() else "traceback"
            process.kill()
            yield number, ending, "no answer", MOST_SECONDS, 0
            break
        patience = 0.0
    process.join()


def main() -> int:
    """Run, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    for case in run_all(given.folder, given.cases, given.seed):
        found.append(case)
        if case.ending not in ("read", "refused"):
            print(f"{case.number} {case.name}: {case.ending}: {case.detail}", flush=True)
    counts = Counter(case.ending for case in found)
    slowest = max(case.seconds for case in found)
    peak = max(case.peak_bytes for case in found)
    print(
        f"{len(found)} cases: {dict(counts)}; slowest {slowest:.2f} s, peak {peak / 2**20:.0f} MiB"
    )
    if given.json:
        given.json.write_text(json.dumps([asdict(case) for case in found], indent=1))
    return int(set(counts) - {"read", "refused"} != set())


if __name__ == "__main__":
    sys.exit(main())
