"""Planes of a cube share networks: fitted once, each kept from the blocks that it has seen."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, OutputError
from dip_pipeline.frames import open_frames, read_provenance
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.pipeline import describe_frame, restore_frame
from dip_pipeline.preparing.planning import run_room
from dip_pipeline.preparing.stacking import fitted_planes, stacks_of
from dip_pipeline.restoration.priors.shared_prior import SharedPrior
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.runs import frame_run, prior_work, providing, restoring, ways
from dip_pipeline.tiling import plan_tiles
from dip_pipeline.verifying import verify_product
from tests.stand_in import any_prior, arithmetic

SHAPE = 40, 44
QUICK = {
    "fit.steps": 2,
    "noise.sigma": 10.0,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}


def cube(folder, count=5, *, name="cube.fits", empty=()):
    rng = np.random.default_rng(3)
    planes = rng.normal(100.0, 10.0, (count, *SHAPE)).astype("f4")
    planes[list(empty)] = np.nan
    path = folder / name
    fits.PrimaryHDU(planes).writeto(path)
    return path


@cache
def any_shared_prior():
    prior = any_prior([], SHAPE, seed=1)
    return SharedPrior(prior.network_kind, prior.networks, prior.report)


@pytest.fixture
def fitted(monkeypatch):
    """What was fitted: names of fits, and of how many frames; what each prior was bound with."""
    did = []

    def shared(frames, **_):
        did.append(("stack", len(frames)))
        return any_shared_prior()

    def bound(self, problems, shape, *, seed, seen):
        did.append(("bound", seen))
        return any_prior(problems, shape, seed=seed)

    def alone(*arguments, **more):
        did.append(("alone", 1))
        return any_prior(*arguments, **more)

    monkeypatch.setattr(prior_work, "fit_shared_prior", shared)
    monkeypatch.setattr(SharedPrior, "bound_to", bound)
    monkeypatch.setattr(ways, "fit_prior", alone)
    monkeypatch.setattr(ways, "restore", arithmetic)
    return did


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


def restored(source, target, **more):
    return restore_frame(source, target, config(**more))


def test_planes_of_a_cube_are_fitted_together_once(tmp_path, fitted):
    """All are held to what was fitted elsewhere: their noise may hang together."""
    report = restored(cube(tmp_path), tmp_path / "out.fits")
    assert (report.status, report.tiles, report.failed_tiles) == ("restored", 5, 0)
    assert fitted == [("stack", 5), *[("bound", True)] * 5]


@pytest.mark.parametrize(("count", "planes", "together"), [
    (3, "auto", False), (2, "together", True), (5, "apart", False), (1, "together", False),
])  # fmt: skip
def test_few_planes_share_networks_where_they_are_told_to(
    tmp_path, fitted, count, planes, together
):
    restored(cube(tmp_path, count), tmp_path / "out.fits", **{"fit.planes": planes})
    assert [what for what, _ in fitted].count("stack") == together
    assert [what for what, _ in fitted].count("alone") == (0 if together else count)


def test_what_is_made_together_says_so_and_passes_its_own_check(tmp_path, fitted):
    source, target = cube(tmp_path), tmp_path / "out.fits"
    restored(source, target)
    with fits.open(target) as hdus:
        assert hdus[0].header["DIPSCOPE"] == "stack"
    document = read_provenance(target).document
    priors = [facts_of(document, name)["prior"] for name in names_of(document, "RestoredPlane")]
    assert {prior["scope"] for prior in priors} == {"stack"}
    assert {prior["from"]["planes_fitted_on"] for prior in priors} == {5}
    assert len({prior["from"]["stack"] for prior in priors}) == 1
    verdict = verify_product(target, str(source))
    assert [check for check in verdict.checks if check.passed is False] == []
    with fits.open(target, mode="update") as hdus:
        hdus[0].header["DIPSCOPE"] = "frame"
    wrong = [check.detail for check in verify_product(target).checks if check.passed is False]
    assert any("DIPSCOPE" in detail for detail in wrong)


def test_an_interrupted_cube_is_not_fitted_again(tmp_path, fitted, monkeypatch):
    source, target = cube(tmp_path), tmp_path / "out.fits"

    def full(*_, **__):
        raise OutputError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(frame_run, "save_frames", full)
        with pytest.raises(OutputError):
            restored(source, target)
    fitted.clear()
    assert restored(source, target).found_done == 5
    assert fitted == []


def test_planes_without_pixels_are_left_and_the_others_share(tmp_path, fitted):
    report = restored(cube(tmp_path, 6, empty=(0, 5)), tmp_path / "out.fits")
    assert report.tiles == 6 - 2 * any("left as it is" in note for note in report.notes)
    assert fitted[0] == ("stack", 4)


def test_a_fit_of_a_stack_that_diverges_is_tried_with_another_seed(
    tmp_path, fitted, monkeypatch, caplog
):
    real, seeds = prior_work.fit_shared_prior, []

    def diverging(frames, *, seed, **more):
        seeds.append(seed)
        prior = real(frames, seed=seed, **more)
        if len(seeds) > 1:
            return prior
        return replace(prior, report=replace(prior.report, stop_reason=StopReason.DIVERGED))

    monkeypatch.setattr(prior_work, "fit_shared_prior", diverging)
    restored(cube(tmp_path), tmp_path / "out.fits")
    assert len(set(seeds)) == 2
    assert "another seed" in caplog.text


def test_of_many_planes_some_are_fitted_on_evenly():
    assert fitted_planes(range(5), (105, 105)) == [0, 1, 2, 3, 4]
    chosen = fitted_planes(range(3600), (300, 300))
    assert len(chosen) == 34
    assert (chosen[0], chosen[-1]) == (0, 3599)
    assert set(np.diff(chosen)) <= {109, 110}
    assert len(fitted_planes(range(40), (2048, 2048))) == 12


def test_only_planes_of_one_hdu_share(tmp_path):
    """Chips of a mosaic have optics, gains and flats of their own."""
    path = tmp_path / "mosaic.fits"
    chip = fits.ImageHDU(np.ones(SHAPE, "f4"))
    fits.HDUList([fits.PrimaryHDU(), *[chip.copy() for _ in range(6)]]).writeto(path)
    assert stacks_of(open_frames(str(path)), config()) == []
    frames = open_frames(str(cube(tmp_path)))
    assert stacks_of(frames, config()) == [(0, 1, 2, 3, 4)]


@pytest.mark.parametrize("more", [
    {"fit.scope": "tile"}, {"fit.input": "code"}, {"fit.prior": "n.prior"},
    {"task.guides": ("g.fits",)}, {"task.name": "inpaint"}, {"task.name": "deconvolve"},
])  # fmt: skip
def test_what_cannot_share_is_refused_where_it_is_asked_for(more):
    assert not config(**more).may_share_planes
    with pytest.raises(ConfigError, match="--planes together: only planes that are denoised"):
        config(**{"fit.planes": "together"}, **more)


def test_what_is_told_beforehand_knows_of_the_one_fit(tmp_path):
    source = str(cube(tmp_path, 40))
    long = {"fit.steps": 1000}
    together, apart = (
        describe_frame(source, config(**long, **{"fit.planes": planes}))
        for planes in ("auto", "apart")
    )
    assert together.seconds < apart.seconds / 8
    assert any("40 planes share networks, fitted on them" in note for note in together.notes)
    assert not any("share" in note for note in apart.notes)


def test_memory_of_the_one_fit_is_counted(tmp_path):
    frames = open_frames(str(cube(tmp_path, 40)))
    planes = [(frame, plan_tiles(frame.shape, config().tile_options())) for frame in frames]
    together, apart = (
        run_room(planes, config(**{"fit.planes": choice})).memory_bytes
        for choice in ("auto", "apart")
    )
    held = 39 * SHAPE[0] * SHAPE[1] * 135
    assert together - apart == pytest.approx(held, rel=0.1)


def test_older_products_keep_the_digest_of_their_configuration():
    assert "planes" not in config().pixel_key()["fit"]
    assert config(**{"fit.planes": "apart"}).digest() != config().digest()


@pytest.mark.slow
def test_what_is_restored_together_is_the_same_in_several_processes(tmp_path):
    source = cube(tmp_path, 4)
    made = []
    for executor in ("inline", "local"):
        target = tmp_path / f"{executor}.fits"
        quick = {"fit.effort": "fast", "workers.executor": executor}
        restored(source, target, **quick, **({"workers.workers": 2} if executor == "local" else {}))
        with fits.open(target) as hdus:
            made.append([hdus[name].data for name in (0, "DIP_ERR", "DIP_FLAG")])
    for one, other in zip(*made, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("planes", ["together", "apart"])
def test_planes_are_in_work_at_once_where_there_are_workers(tmp_path, fitted, monkeypatch, planes):
    """One job of all priors, and one of all tiles: no worker waits for another one's plane."""
    jobs, sizes, provide_prior = [], set(), prior_work.provide_prior

    def run_items(_, job, items, key):
        named = [(key(item), item) for item in items]
        sizes.update(len(pickle.dumps(item)) for _, item in named if job.run is provide_prior)
        jobs.append((job.run.__name__, [name for name, _ in named]))
        return [job.run(item) for _, item in named]

    monkeypatch.setattr(restoring, "run_items", run_items)
    monkeypatch.setattr(providing, "run_items", run_items)
    source, asked = cube(tmp_path), {"fit.planes": planes}
    workers = {"workers.executor": "local", "workers.workers": 2}
    report = restored(source, tmp_path / "out.fits", **asked, **workers)
    assert (report.tiles, report.failed_tiles) == (5, 0)
    stack = [("provide_stack", 1)] if planes == "together" else []
    all_at_once = [*stack, ("provide_prior", 5), ("restore_tile", 5)]
    assert [(what, len(names)) for what, names in jobs] == all_at_once
    assert all(len(set(names)) == len(names) for _, names in jobs)
    # What goes to a worker is of one plane, not of all that its networks were fitted on.
    assert max(sizes) < 3 * len(pickle.dumps(open_frames(source)[0]))
    assert restored(source, tmp_path / "alone.fits", **asked).tiles == 5
    with fits.open(tmp_path / "out.fits") as ours, fits.open(tmp_path / "alone.fits") as alone:
        assert np.array_equal(ours[0].data, alone[0].data)


def test_how_many_planes_are_ready_is_told_now_and_then(tmp_path, fitted, monkeypatch):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(providing.time, "monotonic", lambda: next(clock))
    told = []

    class Listener:
        def frame_started(self, *started):
            told.append(f"{started[1]} tiles")

        def fit_step(self, *_): ...
        def tile_done(self, record): ...

        def note(self, message):
            told.append(message.rpartition(": ")[2])

    restore_frame(cube(tmp_path), tmp_path / "out.fits", config(), progress=Listener())
    assert "5 tiles" in told  # not a tile at a time
    assert [word for word in told if "networks of" in word] == [
        "networks of 2 of 5 planes", "networks of 4 of 5 planes",
    ]  # fmt: skip


def noises_told(source, target, **options):
    told = []

    class Listener:
        def frame_started(self, *_): ...
        def fit_step(self, *_): ...
        def tile_done(self, record): ...

        def note(self, message):
            told.append(message)

    quick = {name: value for name, value in QUICK.items() if name != "noise.sigma"}
    restore_frame(
        source, target, RunConfig().with_overrides(**quick, **options), progress=Listener()
    )
    return [message for message in told if ": noise " in message]


def test_the_noise_of_few_planes_is_told(tmp_path, fitted):
    noises = noises_told(cube(tmp_path, 6), tmp_path / "out.fits")
    assert [f"plane [{n}]: noise gaussian" in noises[n] for n in range(3)] == [True] * 3
    more = "plane [3]: noise of this plane and those after it is in the account (DIP_PROV)"
    assert noises[3].endswith(more)
    assert len(noises) == 4


def test_one_noise_of_all_planes_is_told_once(tmp_path, fitted):
    noises = noises_told(cube(tmp_path, 6), tmp_path / "out.fits", **{"noise.sigma": 10.0})
    assert [message.partition(": noise ")[0][-9:] for message in noises] == ["plane [0]"]
