"""Laws of the Python interface: the process that calls goes on with its own settings of torch."""

import subprocess
import sys
from contextlib import suppress
from threading import Barrier, Thread

import pytest
import torch
from astropy.io import fits

from dip_pipeline import noise_planes
from dip_pipeline.batch.batch import Job, restore_frames
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.fitting import fit_frames
from dip_pipeline.pipeline import describe_frame, finish_run, restore_frame
from dip_pipeline.psf.measuring import measure_frame_psf
from dip_pipeline.restoration import restore
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.priors import prior_fit
from dip_pipeline.runs import frame_run, work
from dip_pipeline.simulate import SceneOptions, simulate

QUICK = {
    "fit.effort": "fast",
    "fit.steps": 1,
    "noise.gain_e_per_dn": 1.5,
    "noise.read_noise_e": 5.0,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}
CONFIG = RunConfig().with_overrides(**QUICK)
OWN = (3, False, True)


def settings():
    cudnn = torch.backends.cudnn
    return torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark


def settle(threads, deterministic, benchmark):
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture(autouse=True)
def own_settings():
    """Settings that no fit would choose."""
    before = settings()
    settle(*OWN)
    yield
    settle(*before)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    path = tmp_path_factory.mktemp("sky") / "sky.fits"
    science = simulate(SceneOptions("crowded", shape=(96, 96), seed=3)).observed_dn
    fits.PrimaryHDU(science).writeto(path)
    return str(path)


CALLS = {
    "restore_frame": lambda sky, out: restore_frame(sky, out / "a.fits", CONFIG),
    "restore_frames": lambda sky, out: restore_frames([Job(sky, out / "a.fits")], CONFIG),
    "describe_frame": lambda sky, _: describe_frame(sky, CONFIG),
    "fit_frames": lambda sky, out: fit_frames([sky], out / "a.prior", CONFIG),
    "measure_frame_psf": lambda sky, out: measure_frame_psf(sky, out / "psf.fits", CONFIG),
}


FITTING_NOTHING = {"describe_frame", "measure_frame_psf"}  # these have no use for torch


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_settings_of_its_caller(name, sky, tmp_path, monkeypatch):
    seen = []

    def watched(threads):
        settle_computing(threads)
        seen.append(settings())

    for module in (prior_fit, restore):
        monkeypatch.setattr(module, "settle_computing", watched)
    with suppress(FrameError):  # there are too few stars for a PSF
        CALLS[name](sky, tmp_path)
    assert set(seen) == (set() if name in FITTING_NOTHING else {(1, True, False)})
    assert settings() == OWN


def test_a_noise_plane_leaves_them(sky, tmp_path, monkeypatch):
    real = noise_planes.open_frames

    def opened(*arguments):
        settle_computing(1)  # as what reads a frame may
        return real(*arguments)

    monkeypatch.setattr(noise_planes, "open_frames", opened)
    noise_planes.write_noise_planes(sky, tmp_path / "sigmas.fits", CONFIG)
    assert settings() == OWN


@pytest.mark.parametrize("error", [OutputError("disk full"), ZeroDivisionError(), SystemExit()])
def test_they_are_left_where_it_fails_too(error, sky, tmp_path, monkeypatch):
    def fail(*_, **__):
        assert settings() == (1, True, False)
        raise error

    monkeypatch.setattr(work, "_publish", fail)
    with pytest.raises(type(error)):
        restore_frame(sky, tmp_path / "a.fits", CONFIG)
    assert settings() == OWN


def test_a_run_that_is_finished_later_leaves_them(sky, tmp_path, monkeypatch):
    config = CONFIG.with_overrides(**{"fit.scope": "tile"})

    def fail(*_, **__):
        raise OutputError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(frame_run, "save_frames", fail)
        with pytest.raises(OutputError):
            restore_frame(sky, tmp_path / "a.fits", config)
    assert finish_run(tmp_path / "a.fits.dip").status == "restored"
    assert settings() == OWN


def test_of_threads_at_once_the_last_one_puts_back_what_the_first_one_found():
    inside, first_left = Barrier(2, timeout=20), Barrier(2, timeout=20)
    seen = []

    def last():
        with settings_kept():
            settle_computing(1)
            inside.wait()
            first_left.wait()
            seen.append(settings())

    thread = Thread(target=last)
    with settings_kept():
        settle_computing(1)
        thread.start()
        inside.wait()
    first_left.wait()
    thread.join()
    assert seen == [(1, True, False)]  # nobody took them from under it
    assert settings() == OWN


def test_settings_are_put_back_where_torch_is_loaded_meanwhile():
    """What they were is known from when they were first changed; nothing loads torch to ask."""
    program = (
        "import sys\n"
        "from dip_pipeline.restoration.computing.callers_settings import settings_kept\n"
        "with settings_kept():\n"
        "    with settings_kept():\n"
        "        assert 'torch' not in sys.modules\n"
        "        import torch\n"
        "        found = torch.get_num_threads(), torch.backends.cudnn.deterministic\n"
        "        from dip_pipeline.restoration.computing.settings import settle_computing\n"
        "        settle_computing(found[0] + 1)\n"
        "        assert torch.get_num_threads() == found[0] + 1\n"
        "        assert torch.backends.cudnn.deterministic\n"
        "    assert torch.backends.cudnn.deterministic\n"
        "assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == found\n"
        "with settings_kept():\n"
        "    pass\n"
        "assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
