"""Laws of exposures that guide each other: they share networks, which nobody else takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from dip_pipeline import fitting
from dip_pipeline.batch.batch import Job, restore_frames
from dip_pipeline.batch.each_priors import shared_among_exposures
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, ExposureError, PriorError
from dip_pipeline.exposures import guiding, registered, settling
from dip_pipeline.exposures.guiding import fitted_exposures, with_others
from dip_pipeline.fitting import fit_frames
from dip_pipeline.frames import open_frame, read_account
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.pipeline import describe_frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.registration import register
from dip_pipeline.restoration.exposures import epochs
from dip_pipeline.restoration.priors import shared_prior
from dip_pipeline.restoration.priors.shared_prior import SharedPrior
from dip_pipeline.runs import planes, ways
from dip_pipeline.runs.prior_file import PriorFile
from tests.cli.test_each import SHAPE, write
from tests.restoration.exposed import SKY
from tests.stand_in import any_prior, arithmetic

QUICK = {
    "task.name": "combine",
    "task.each": True,
    "fit.steps": 1,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}


@pytest.fixture
def four(tmp_path):
    return [str(write(tmp_path, number)) for number in range(4)]


@pytest.fixture
def did(monkeypatch):
    """What was fitted, of how many exposures and networks; all else is stood in for."""
    made = []
    prior = any_prior([], (40, 44), seed=1)

    def counted(frames, *, folds, origin, **_):
        made.append((len(frames), folds))
        assert all(not one.exposures and one.twin for problems, _ in frames for one in problems)
        return SharedPrior(prior.network_kind, prior.networks, prior.report, origin)

    def alone(*arguments, **more):
        made.append("alone")
        return any_prior(*arguments, **more)

    monkeypatch.setattr(shared_prior, "fit_shared_prior", counted)
    monkeypatch.setattr(ways, "fit_epoch_prior", alone)
    monkeypatch.setattr(ways, "bind_epoch_prior", lambda _, *frame, **__: any_prior(*frame, seed=1))
    monkeypatch.setattr(ways, "restore_epoch", arithmetic)
    return made


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


def jobs_of(sources, folder):
    return [Job(one, folder / f"{number}.fits") for number, one in enumerate(sources)]


def shared(sources, folder, **more):
    return shared_among_exposures(jobs_of(sources, folder), config(**more), folder, None)


def test_exposures_share_networks_that_are_fitted_once(did, four, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    jobs = shared(four, out)
    report = restore_frames(jobs, config())
    assert [frame.status for frame in report.frames] == ["restored"] * 4
    assert did == [(4, 4)]
    (prior,) = (out / "priors").iterdir()
    assert {job.prior for job in jobs} == {str(prior)}
    for job in jobs:
        told = facts_of(read_account(job.target).document, "prior")
        assert told["from"]["file"] == prior.name
        assert told["fitted_on_this_frame"] is True
    again = shared(four, out)
    assert [frame.status for frame in restore_frames(again, config()).frames] == [
        "already done"
    ] * 4
    assert did == [(4, 4)]


def test_what_the_fit_registered_is_not_registered_again(did, four, tmp_path, monkeypatch):
    """Twelve pairs of four exposures, and each one's noise; another seed is another product."""
    pairs, settled = [], []

    def noted(own, reference, **more):
        pairs.append((own.name, reference.name))
        return register(own, reference, **more)

    def found(frame, *rest):
        settled.append(frame.path.name)
        return settle_frame(frame, *rest)

    monkeypatch.setattr(registered, "register", noted)
    for module in (settling, fitting, planes):
        monkeypatch.setattr(module, "settle_frame", found)
    accounts = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        jobs = shared(four, tmp_path / name)
        restore_frames(jobs, config())
        accounts.append([registrations(job.target) for job in jobs])
        assert len(pairs) == len(set(pairs)) == 12
        assert len(settled) == 4
        assert all(len(one) == 3 for one in accounts[-1])
    assert accounts[0] == accounts[1]


def registrations(product):
    nodes = read_account(product).document["entity"]
    return [node for name, node in nodes.items() if name.startswith("dip:exposure-")]


def test_what_guides_them_decides_their_networks(did, four, tmp_path):
    """One more exposure, that is not restored itself, is another prior."""
    first = shared(four[:3], tmp_path, **{"fit.planes": "together"})
    second = shared(four[:3], tmp_path, **{"fit.planes": "together", "task.exposures": (four[3],)})
    assert first[0].prior != second[0].prior
    assert did == [(3, 4), (3, 4)]


def test_a_mask_beside_what_guides_them_decides_their_networks(did, four, tmp_path):
    mask = tmp_path / "c_mask.fits"
    fits.writeto(mask, np.zeros(SHAPE, np.uint8))
    more = {"fit.planes": "together", "task.exposures": (four[2],)}
    shared(four[:2], tmp_path, **more)
    shared(four[:2], tmp_path, **more)
    assert did == [(2, 4)]
    fits.writeto(mask, np.eye(*SHAPE, dtype=np.uint8), overwrite=True)
    shared(four[:2], tmp_path, **more)
    assert did == [(2, 4)] * 2


def test_what_they_are_fitted_on_is_made_ready_on_the_threads_of_a_fit(
    did, four, tmp_path, monkeypatch
):
    """Sums in torch are as rounded as their threads are many."""
    threads = []
    with_twin = epochs.with_twin

    def noted(problem):
        threads.append(torch.get_num_threads())
        return with_twin(problem)

    monkeypatch.setattr(epochs, "with_twin", noted)
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared(four[:2], tmp_path, **{"fit.planes": "together"})
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)
    assert threads == [1, 1]


@pytest.mark.parametrize(
    ("count", "more"),
    [(3, {}), (4, {"fit.planes": "apart"}), (4, {"fit.scope": "tile"})],
    ids=["few", "apart", "by tile"],
)
def test_few_exposures_have_networks_of_their_own(did, four, tmp_path, count, more):
    assert [job.prior for job in shared(four[:count], tmp_path, **more)] == [None] * count
    assert did == []


def test_when_a_fourth_comes_all_share(did, four, tmp_path):
    """Not only it: products of three are made anew in any case, for they lack what guides them."""
    three = jobs_of(four[:3], tmp_path)
    assert all(frame.report.ok for frame in restore_frames(three, config()).frames)
    assert did == ["alone"] * 3
    jobs = shared_among_exposures(jobs_of(four, tmp_path), config(), tmp_path, None)
    assert len({job.prior for job in jobs} - {None}) == 1
    assert None not in {job.prior for job in jobs}


def test_of_files_of_chips_each_has_its_turn_and_a_dead_one_is_passed_over(
    did, four, tmp_path, monkeypatch
):
    shapes = []
    counted = shared_prior.fit_shared_prior

    def noted(frames, **more):
        shapes.extend(shape for _, shape in frames)
        return counted(frames, **more)

    monkeypatch.setattr(shared_prior, "fit_shared_prior", noted)
    for number, path in enumerate(four):
        with fits.open(path) as hdus:
            pixels, header = hdus[0].data, hdus[0].header
        chips = [pixels, pixels[:, :42]]
        if number == 2:
            chips[0] = np.full_like(chips[0], np.nan)
        planes = [
            fits.ImageHDU(chip, header, name="SCI", ver=1 + n) for n, chip in enumerate(chips)
        ]
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(path, overwrite=True)
    shared(four, tmp_path / "out")
    assert did == [(4, 4)]
    assert shapes == [(40, 44), (40, 42), (40, 42), (40, 42)]


def test_of_chips_the_account_tells_which_were_fitted_on(did, four, tmp_path):
    for number, path in enumerate(four[:2]):
        header, noise = fits.getheader(path), np.random.default_rng(number)
        pixels = fits.getdata(path)
        chips = [pixels, pixels + noise.normal(0, 9.0, SHAPE).astype(np.float32)]
        planes = [fits.ImageHDU(chip, header, "SCI", ver=n) for n, chip in enumerate(chips, 1)]
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(path, overwrite=True)
    (tmp_path / "out").mkdir()
    jobs = shared(four[:2], tmp_path / "out", **{"fit.planes": "together"})
    report = restore_frames(jobs, config())
    assert [frame.error for frame in report.frames] == ["", ""]
    told = [read_account(job.target).document for job in jobs]
    fitted = [
        [facts_of(one, f"plane-{n}")["prior"]["fitted_on_this_frame"] for n in (1, 2)]
        for one in told
    ]
    assert fitted == [[True, False], [False, True]]


def test_a_file_that_cannot_be_read_leaves_the_others_theirs(did, four, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no frame")
    jobs = shared([*four, str(bad)], tmp_path / "out")
    assert [job.prior is not None for job in jobs] == [True] * 4 + [False]
    assert did == [(4, 4)]


def test_one_without_a_pixel_is_not_fitted_on_and_guides_nobody(did, four, tmp_path, caplog):
    dead = tmp_path / "dead.fits"
    with fits.open(four[0]) as hdus:
        fits.writeto(dead, np.full_like(hdus[0].data, np.nan), hdus[0].header)
    jobs = shared([*four, str(dead)], tmp_path / "out")
    assert did == [(4, 4)]
    assert len({job.prior for job in jobs}) == 1
    assert f"{dead}: the prior of all is not fitted on it" in caplog.text
    report = restore_frames(jobs, config())
    assert [frame.status for frame in report.frames] == ["restored"] * 4 + ["failed"]


def test_one_under_clouds_is_not_fitted_on_and_leaves_the_others_theirs(did, four, tmp_path):
    clouded = tmp_path / "clouded.fits"
    sky = np.random.default_rng(9).normal(SKY, 12.0, SHAPE).astype(np.float32)
    fits.writeto(clouded, sky, fits.getheader(four[0]))
    jobs = shared([*four[:2], str(clouded)], tmp_path / "out", **{"fit.planes": "together"})
    assert did == [(2, 4)]
    assert len({job.prior for job in jobs}) == 1


def test_exposures_that_cannot_guide_each_other_end_before_the_fit(did, tmp_path):
    sources = [str(write(tmp_path, number)) for number in range(3)]
    sources.append(str(write(tmp_path, 3, FILTER="g")))
    with pytest.raises(ExposureError, match="filter g"):
        shared(sources, tmp_path)
    assert did == []


def test_many_are_fitted_on_some_of_them():
    assert [fitted_exposures(config(), count) for count in (3, 4, 12, 90)] == [0, 4, 12, 12]
    assert fitted_exposures(config(**{"fit.planes": "together"}), 2) == 2
    assert fitted_exposures(config(**{"task.each": False}), 9) == 0
    assert fitted_exposures(RunConfig(), 9) == 0


def test_their_networks_are_for_nobody_else_and_no_others_for_them(four, tmp_path, monkeypatch):
    """Real ones: they see a plane more. Each block is of those that saw it in no exposure, also in
    one that none was fitted on."""
    monkeypatch.setattr(guiding, "_MOST_FITTED", 2)
    jobs = shared(four, tmp_path)
    prior = PriorFile.read(tmp_path / "priors" / jobs[0].prior.rpartition("/")[2])
    assert len(prior.load().networks) == 4
    frame = open_frame(four[0])
    own = with_others(config(), four, 0)
    prior.check(frame, own)
    with pytest.raises(PriorError, match="beside others"):
        prior.check(frame, RunConfig())
    plain = RunConfig().with_overrides(**{key: QUICK[key] for key in list(QUICK)[2:]})
    report = restore_frames(jobs[:1], config(**{"task.exposures": tuple(four[1:])}))
    assert report.frames[0].status == "restored", report.frames[0].error
    told = facts_of(read_account(jobs[0].target).document, "prior")
    assert (told["blocks"]["folds"], told["fitted_on_this_frame"]) == (4, False)
    assert np.isfinite(open_frame(jobs[0].target).read(slice(None), slice(None)).science).all()
    fit_frames(four[:2], tmp_path / "plain.prior", plain)
    with pytest.raises(PriorError, match="frames alone"):
        PriorFile.read(tmp_path / "plain.prior").check(frame, own)


def test_their_networks_are_refused_to_other_exposures(did, four, tmp_path):
    """Whatever filter these have: each was held against those that it was fitted on."""
    together = {"fit.planes": "together"}
    prior = PriorFile.read(Path(shared(four[:2], tmp_path, **together)[0].prior))
    prior.check(open_frame(four[1]), with_others(config(), four[:2], 1))
    with pytest.raises(PriorError, match=r"c\.fits: none of the exposures that .*\.prior is for"):
        prior.check(open_frame(four[2]), with_others(config(), four[:3], 2))


def test_nothing_is_fitted_for_products_that_would_not_be_replaced(did, four, tmp_path):
    together = {"fit.planes": "together"}
    first = restore_frames(jobs := shared(four[:2], tmp_path, **together), config(**together))
    assert [frame.status for frame in first.frames] == ["restored"] * 2
    other = config(**together, **{"fit.seed": 5})
    again = shared_among_exposures(jobs_of(four[:2], tmp_path), other, tmp_path, None)
    assert did == [(2, 4)]
    for end in restore_frames(again, other).frames:
        assert "fit.seed (0, now 5)" in end.error
    shared_among_exposures(jobs, other, tmp_path, None, overwrite=True)
    assert did == [(2, 4)] * 2
    Path(jobs[0].prior).unlink()  # without it nobody can tell that they are of this command
    shared(four[:2], tmp_path, **together)
    assert did == [(2, 4)] * 3


def test_what_is_shown_of_them_counts_the_fit_once(four):
    alone, together = (
        describe_frame(four[0], with_others(config(**more), four, 0))
        for more in ({"fit.planes": "apart"}, {})
    )
    assert together.seconds < alone.seconds
    assert any("4 exposures share networks, fitted on them" in note for note in together.notes)


def test_planes_together_is_for_what_can_share():
    with pytest.raises(ConfigError, match="exposures of combine --each"):
        config(**{"task.each": False, "fit.planes": "together"})
