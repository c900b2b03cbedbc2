"""Laws of a night's prior: frames that come later share it, and nothing is fitted without cause."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.batch.batch import Job
from dip_pipeline.batch.night_priors import NightPriors
from dip_pipeline.config import RunConfig
from dip_pipeline.engine.run_lock import take
from dip_pipeline.restoration.priors import shared_prior

CONFIG = RunConfig().with_overrides(
    **{"fit.steps": 1, "noise.sigma": 5.0, "workers.threads_per_fit": 1, "workers.device": "cpu"}
)


def write(folder, number, seed=None):
    """One frame of the night, half an hour after the one before."""
    pixels = np.random.default_rng(number if seed is None else seed).normal(100, 5, (32, 32))
    header = fits.Header({"FILTER": "r", "INSTRUME": "cam"})
    header["DATE-OBS"] = f"2026-11-20T{20 + number // 2}:{30 * (number % 2):02d}:00"
    path = folder / f"{number}.fits"
    fits.writeto(path, pixels.astype(np.float32), header, overwrite=True)
    return str(path)


@pytest.fixture
def fits_made(monkeypatch):
    """Frames of every fit that was made."""
    made = []
    fit = shared_prior.fit_shared_prior

    def counted(problems, **more):
        made.append(len(problems))
        return fit(problems, **more)

    monkeypatch.setattr(shared_prior, "fit_shared_prior", counted)
    return made


def priors_of(folder, sources, frames=2, config=CONFIG):
    jobs = [Job(source, Path(source).with_suffix(".out.fits")) for source in sources]
    given = NightPriors(folder / "priors", frames, config).given_to(jobs, None)
    return [job.prior for job in given]


def test_frames_that_come_later_in_a_night_get_the_prior_of_the_first(tmp_path, fits_made):
    first = [write(tmp_path, number) for number in range(2)]
    (prior,) = set(priors_of(tmp_path, first))
    content = Path(prior).read_bytes()
    later = [*first, *(write(tmp_path, number) for number in range(2, 6))]
    assert set(priors_of(tmp_path, later)) == {prior}
    assert Path(prior).read_bytes() == content
    assert fits_made == [2]


def test_who_comes_while_another_run_fits_a_prior_waits_and_takes_it(tmp_path, fits_made, caplog):
    """As shards that begin together."""
    sources = [write(tmp_path, number) for number in range(2)]
    (prior,) = set(priors_of(tmp_path, sources))
    content = Path(prior).read_bytes()
    Path(prior).unlink()
    held = take(Path(prior).with_name(f".{Path(prior).name}.lock"))
    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(priors_of, tmp_path, sources)
        while "waiting" not in caplog.text:
            assert not later.done()
            time.sleep(0.01)
        assert fits_made == [2]
        Path(prior).write_bytes(content)  # the other one is done
        held.path.unlink()
        held.release()
        assert set(later.result()) == {prior}
    assert fits_made == [2]
    assert [path.name for path in Path(prior).parent.iterdir()] == [Path(prior).name]


def test_only_groups_of_frames_that_need_one_have_a_prior_fitted(tmp_path, fits_made):
    """Those beside are fitted on, too."""
    red = [write(tmp_path, number) for number in range(2)]
    blue = [write(tmp_path, number) for number in range(2, 4)]
    for path in blue:
        fits.setval(path, "FILTER", value="b")
    priors = NightPriors(tmp_path / "priors", 2, CONFIG)
    (job,) = priors.given_to([Job(red[1], tmp_path / "out.fits")], None, [*red, *blue])
    assert job.source == red[1]
    assert fits_made == [2]
    assert Path(job.prior).name.startswith("01_")
    assert len(list((tmp_path / "priors").glob("*.prior"))) == 1


def test_files_of_planes_behind_unlike_filters_share_no_prior(tmp_path, fits_made):
    """It would be of the first filter, and is refused by the others."""
    sources = [write(tmp_path, number) for number in range(4)]
    for path in sources[2:]:
        pixels, header = fits.getdata(path, header=True)
        hdus = [fits.PrimaryHDU(header=header)]
        hdus += [fits.ImageHDU(pixels, fits.Header({"FILTER": band}), "SCI") for band in "rg"]
        fits.HDUList(hdus).writeto(path, overwrite=True)
    alike, unlike = priors_of(tmp_path, sources)[1:3]
    assert alike is not None
    assert unlike is None
    assert fits_made == [2]


def test_frames_whose_outputs_are_there_and_stay_have_no_prior_fitted(tmp_path, fits_made):
    """It took minutes before the first line said that nothing would be overwritten."""
    red = [write(tmp_path, number) for number in range(2)]
    jobs = [Job(source, Path(source).with_suffix(".out.fits")) for source in red]
    for job in jobs:
        job.target.write_bytes(Path(job.source).read_bytes())
    priors = NightPriors(tmp_path / "priors", 2, CONFIG, overwrite=False)
    assert priors.given_to(jobs, None) == jobs
    assert fits_made == []
    jobs[0].target.unlink()  # one is to be made: all of its night share what it gets
    assert {job.prior is None for job in priors.given_to(jobs, None)} == {False}
    assert fits_made == [2]
    assert replace(priors, overwrite=True, frames=1).given_to(jobs, None)[1].prior


def test_it_is_fitted_on_as_many_as_were_asked_for_though_fewer_were_there(tmp_path, fits_made):
    first = [write(tmp_path, number) for number in range(2)]
    three, two = (priors_of(tmp_path, first, frames)[0] for frames in (3, 2))
    assert three != two
    assert fits_made == [2, 2]
    later = [*first, write(tmp_path, 2), write(tmp_path, 3)]
    assert priors_of(tmp_path, later, 3) == [three] * 4
    assert fits_made == [2, 2]


def test_a_prior_is_found_again_however_its_frames_are_written(tmp_path, fits_made, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [write(tmp_path, number) for number in range(2)]
    found = set(priors_of(tmp_path, sources))
    for way in ("{}", "./{}", f"../{tmp_path.name}/{{}}"):
        found |= set(priors_of(tmp_path, [way.format(Path(source).name) for source in sources]))
    assert len(found) == 1
    assert fits_made == [2]


def test_a_copy_of_a_frame_is_not_fitted_beside_it(tmp_path, fits_made):
    first = write(tmp_path, 0)
    copy = tmp_path / "copy.fits"
    fits.writeto(copy, fits.getdata(first), fits.getheader(first) + fits.Header({"NOTE": "x"}))
    prior = priors_of(tmp_path, [first, str(copy)])
    assert prior[0] is not None
    assert prior[0] == prior[1]
    assert fits_made == [1]


def test_a_frame_that_holds_nothing_costs_no_other_frame_its_prior(tmp_path, fits_made, caplog):
    night = [write(tmp_path, number) for number in range(4)]
    for chosen in (1, 3):  # those that would be fitted on
        with fits.open(night[chosen], mode="update") as hdus:
            hdus[0].data[:] = np.nan
    (prior,) = set(priors_of(tmp_path, night))
    assert prior is not None
    assert fits_made == [2]
    told = [line for line in caplog.messages if "not fitted on" in line]
    assert [Path(line.partition(": ")[0]).name for line in told] == ["1.fits", "3.fits"]
    assert all("no pixel can be used" in line for line in told)
    assert set(priors_of(tmp_path, [*night, write(tmp_path, 4)])) == {prior}
    assert fits_made == [2]


def test_of_a_night_with_one_good_frame_each_is_fitted_for_itself(tmp_path, fits_made, caplog):
    night = [write(tmp_path, number) for number in range(2)]
    fits.writeto(night[0], np.full((32, 32), np.nan), fits.getheader(night[0]), overwrite=True)
    assert priors_of(tmp_path, night) == [None, None]
    assert fits_made == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "no prior" in caplog.text


def test_other_options_or_a_frame_that_is_gone_are_another_prior(tmp_path, fits_made):
    sources = [write(tmp_path, number) for number in range(3)]
    before = priors_of(tmp_path, sources)
    assert (
        len(
            {
                *before,
                *priors_of(tmp_path, sources, config=CONFIG.with_overrides(**{"fit.seed": 9})),
            }
        )
        == 2
    )
    left = [*sources[1:], write(tmp_path, 3)]
    assert set(priors_of(tmp_path, left)).isdisjoint(before)
    assert fits_made == [2, 2, 2]


def test_a_frame_that_was_replaced_is_fitted_anew(tmp_path, fits_made):
    sources = [write(tmp_path, number) for number in range(2)]
    (prior,) = set(priors_of(tmp_path, sources))
    content = Path(prior).read_bytes()
    write(tmp_path, 0, seed=77)
    assert set(priors_of(tmp_path, sources)) == {prior}
    assert Path(prior).read_bytes() != content
    assert fits_made == [2, 2]
