"""Laws of the account: all that it takes to do a run again is in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.account.account import describe_run, input_facts, recipe_of
from dip_pipeline.account.record import RunFacts, run_key
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.prov_json import facts_of, names_of, problems_of
from dip_pipeline.frames.provenance import digest_tiles
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.noise_kernel import NoiseKernel


def tile(number, **more):
    judged = {"risk": 0.04, "risk_error": 0.005, "judged_pixels": 100, "flux_change": 1.0}
    return {
        "tile": number,
        "failed": False,
        "stop_reason": "STEP_LIMIT",
        "steps": 5,
        **judged,
    } | more


def facts(**changes):
    config = RunConfig().with_overrides(
        **{"fit.prior": "night.prior", "workers.threads_per_fit": None, "noise.law": "gaussian"}
    )
    key = run_key(config, "in", "SCI,2", prior_digest="prior", companions={"guide-1": "guide"})
    sensor = Sensor(subtracted_sky_dn=Sourced(40.0, "DN", "card SUBSKY"))
    found = RunFacts(
        run_id="7",
        key=key,
        config=config,
        noise=NoiseModel(
            NoiseKind.GAUSSIAN, "given", Sourced(2.0, "adu", "--sigma"), sensor=sensor
        ),
        network="unet",
        device="cpu",
        tiles=[tile(10), tile(9), tile(2, steps=8)],
        command_line=("dip", "denoise"),
        prior={"fitted_on_this_frame": True},
        seconds=3.0,
        frame_pixels=300,
        input={"file": "a.fits", "prov:location": "/sky/a.fits"},
        companions=[("mask", "HDU 3"), ("mask", "HDU 4")],
        step=0.25,
        left=[("HDU 5", "empty")],
    )
    return replace(found, **changes)


def test_a_run_can_be_done_again_by_its_account_alone():
    made = facts()
    recipe = recipe_of(describe_run(made).document, Path("out.fits"))
    assert (recipe.source, recipe.sha256, recipe.prior_sha256) == (
        "/sky/a.fits[SCI,2]",
        "in",
        "prior",
    )
    assert recipe.beside == {"guide-1": "guide"}
    assert recipe.config.fit.prior == str(Path("night.prior").absolute())
    assert recipe.config.workers.threads_per_fit == made.config.threads_per_fit
    assert recipe.config.digest() == made.config.digest()
    assert recipe.versions["algorithm"] == made.key["algorithm"]


def test_tiles_are_on_record_in_their_order_and_vouched_for():
    account = describe_run(facts())
    assert [row["tile"] for row in account.tiles] == [2, 9, 10]
    product = facts_of(account.document, "product")
    assert product["sha256_tiles"] == digest_tiles(account.tiles)


def test_what_came_out_and_what_it_was_made_of_is_told():
    document = describe_run(facts()).document
    product = facts_of(document, "product")
    assert product["quantisation_step"] == 0.25
    assert product["left_as_they_are"] == [["HDU 5", "empty"]]
    numbers = facts_of(document, "noise")["numbers"]
    assert numbers["subtracted_sky"] == {"value": 40.0, "unit": "DN", "source": "card SUBSKY"}
    assert [facts_of(document, name)["plane"] for name in names_of(document, "Plane")] == [
        "HDU 3",
        "HDU 4",
    ]


@pytest.mark.parametrize(
    ("prior", "judge"),
    [(True, "cross-fitted networks"), (False, "networks of other frames"), (None, "cross-fitted")],
)
def test_by_whom_the_risk_was_judged_is_told(prior, judge):
    told = {} if prior is None else {"fitted_on_this_frame": prior}
    document = describe_run(facts(prior=told)).document
    assert facts_of(document, "product")["risk_judge"].startswith(judge)


def test_planes_of_one_file_are_told_each_by_its_first_tile():
    planes = [
        ("HDU 1", facts(tiles=[tile(1), tile(0)])),
        ("HDU 2", facts(tiles=[tile(3), tile(2)])),
    ]
    document = describe_run(facts(planes=planes)).document
    told = [facts_of(document, f"plane-{number}") for number in (1, 2)]
    assert [(one["plane"], one["first_tile"]) for one in told] == [("HDU 1", 0), ("HDU 2", 2)]


def test_the_cards_tell_of_all_tiles_and_of_both_axes():
    tiles = [tile(0), tile(1, failed=True, stop_reason="DIVERGED"), tile(2, steps=8)]
    noise = NoiseModel(
        *(NoiseKind.GAUSSIAN, "given", Sourced(2.0, "adu", "--sigma")),
        correlation=NoiseKernel.from_neighbour(0.3, "given"),
    )
    account = describe_run(facts(tiles=tiles, noise=noise))
    cards = {keyword: value for keyword, value, _ in account.cards}
    told = [cards[name] for name in ("DIPNTILE", "DIPNFAIL", "DIPSTEPS", "DIPSTOP", "DIPNCOR")]
    assert told == [3, 1, 8, "STEP_LIMIT", 0.3]
    assert facts_of(account.document, "product")["failed_tiles"] == 1


@pytest.mark.parametrize("sky", [None, Sourced(40.0, "DN", "card SUBSKY")])
def test_a_sky_that_was_taken_away_has_a_card(sky):
    """Photons of it are in the noise: without it the cards give another law than was used."""
    noise = NoiseModel(*(NoiseKind.POISSON_GAUSSIAN, "given"), sensor=Sensor(subtracted_sky_dn=sky))
    cards = {keyword: value for keyword, value, _ in describe_run(facts(noise=noise)).cards}
    assert cards["DIPSKY"] == (None if sky is None else 40.0)
    assert ("subtracted sky 40 DN" in noise_in_words(noise)) is (sky is not None)


def test_the_account_of_an_earlier_restoration_is_kept_whole():
    earlier = describe_run(facts(run_id="6")).document
    document = describe_run(facts(earlier=earlier)).document
    (kept,) = document["bundle"].values()
    assert kept == earlier
    assert problems_of(document) == []


def test_planes_of_the_input_that_were_used_are_told(tmp_path):
    planes = {
        "SCI": np.ones((9, 9), "f4"),
        "ERR": np.ones((9, 9), "f4"),
        "DQ": np.zeros((9, 9), "u1"),
    }
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "in.fits")
    found = input_facts("in.fits", open_frame(tmp_path / "in.fits"))
    assert found["companions"] == [("error_plane", "HDU 2 (ERR,1)"), ("mask", "HDU 3 (DQ,1)")]
    assert found["input"]["prov:location"] == str(tmp_path / "in.fits")
    assert found["earlier"] is None
