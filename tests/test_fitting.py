"""Laws of a prior for many frames: from files to a file, and to other frames."""

import hashlib
import json
import os
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from astropy.io import fits

from dip_pipeline.account.account import key_of
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, FrameError, OutputError, PriorError, RunError
from dip_pipeline.fitting import fit_frames
from dip_pipeline.frames import file_digest, open_frame, open_frames, read_provenance
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.pipeline import describe_frame, restore_frame
from dip_pipeline.runs import frame_run, plane_results, prior_file, prior_work
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate

QUICK = {
    "fit.steps": 40,
    "tiles.size_px": 96,
    "tiles.overlap_px": 16,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}


def quick(prior=None, **more):
    return RunConfig().with_overrides(
        **{**QUICK, "fit.prior": None if prior is None else str(prior), **more}
    )


ONE_STEP = quick(**{"fit.steps": 1})


def write(path, seed, **cards):
    """A simulated frame as FITS; a card that is None is left out."""
    scene = SceneOptions("crowded", shape=(128, 128), seed=seed)
    return write_simulation(path, simulate(scene), **cards)


def write_stamp(path, seed):
    """A frame so small and plain that a fit of one step is quick."""
    scene = SceneOptions("galaxies", shape=(32, 32), seed=seed, saturated_star=False)
    return write_simulation(path, simulate(scene, DetectorOptions(defects=False)))[0]


def write_simulation(path, simulation, **cards):
    science = fits.ImageHDU(simulation.observed_dn, name="SCI")
    header = {keyword: value for keyword, value, _ in simulation.header_cards()} | cards
    for keyword, value in header.items():
        if value is not None and keyword not in ("COMMENT", "HISTORY", ""):
            science.header[keyword] = value
    flags = fits.ImageHDU(simulation.flags, name="DQ")
    fits.HDUList([fits.PrimaryHDU(), science, flags]).writeto(path)
    return str(path), simulation


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Two frames and the prior fitted to them."""
    folder = tmp_path_factory.mktemp("night")
    sources = [write(folder / f"frame{seed}.fits", seed)[0] for seed in (1, 2)]
    summary = fit_frames(sources, folder / "night.prior", quick())
    return sources, summary


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    """Two frames that are fitted in no time."""
    folder = tmp_path_factory.mktemp("stamps")
    return [write_stamp(folder / f"stamp{seed}.fits", seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A frame that the prior was not fitted on."""
    return write(tmp_path_factory.mktemp("other") / "other.fits", 9)


@pytest.fixture(scope="module")
def product(night, other, tmp_path_factory):
    target = tmp_path_factory.mktemp("product") / "out.fits"
    report = restore_frame(other[0], target, quick(night[1].target))
    return target, report


def test_a_prior_restores_a_frame_that_it_never_saw_and_says_honestly_how_well(other, product):
    simulation, (target, report) = other[1], product
    judged = ~simulation.masked & ~simulation.saturated
    with fits.open(target) as hdus:
        wrong = (hdus["SCI"].data - simulation.truth_dn) / simulation.sigma_true_dn
    true_rms = float(np.sqrt(np.mean(wrong[judged] ** 2)))
    assert report.ok
    assert report.risk == pytest.approx(true_rms, abs=4 * report.risk_error)
    assert report.risk < 0.6


def test_of_files_of_several_planes_each_has_its_turn_and_is_known_again(stamps, tmp_path, caplog):
    sources = []
    for name, path in zip("ab", stamps, strict=True):
        with fits.open(path) as hdus:
            data = hdus["SCI"].data
            hdus["SCI"].data = np.stack([data + number for number in range(3)])
            hdus["SCI"].data[1] = np.nan
            del hdus["DQ"]
            hdus.writeto(tmp_path / f"{name}.fits")
        sources.append(str(tmp_path / f"{name}.fits"))
    with caplog.at_level("INFO"):
        fit_frames(sources, tmp_path / "one.prior", ONE_STEP)
    told = [line.split(": ", 1) for line in caplog.messages if "fitted on" in line]
    plane = "HDU 1 (SCI,1), plane [{}]".format
    assert told == [
        [sources[0], f"fitted on 2 of its 3 planes: {plane(0)}; {plane(2)}"],
        [sources[1], f"fitted on 2 of its 3 planes: {plane(2)}; {plane(0)}"],
    ]
    prior = PriorFile.read(tmp_path / "one.prior")
    seen = [prior.has_seen(each) for source in sources for each in open_frames(source)]
    assert seen == [True, False, True] * 2
    assert [each["file"] for each in prior.facts()["frames"]] == ["a.fits", "b.fits"]
    again = fit_frames(sources, tmp_path / "one.prior", ONE_STEP)
    assert (again.status, again.frames) == ("already done", 2)


def test_nothing_is_fitted_where_a_prior_is_given(night, other, tmp_path, monkeypatch):
    monkeypatch.setattr(prior_work, "fit_frame_prior", None)
    told = []

    class Listener:
        def frame_started(self, *told): ...
        def note(self, *told): ...
        def tile_done(self, *told): ...
        def fit_step(self, *step):
            told.append(step)

    config = quick(night[1].target)
    restore_frame(other[0], tmp_path / "out.fits", config, progress=Listener())
    assert told == []
    assert describe_frame(other[0], config).seconds < describe_frame(other[0], quick()).seconds / 2


def test_the_record_names_the_prior_by_content_and_name(night, product):
    sources, summary = night
    found = read_provenance(product[0])
    facts = facts_of(found.document, "prior")
    digest = file_digest(summary.target)
    assert facts["from"]["file"] == "night.prior"
    assert facts["from"]["sha256"] == digest == key_of(found.document)["prior"]
    assert [item["sha256"] for item in facts["from"]["frames"]] == [
        file_digest(open_frame(source).path) for source in sources
    ]
    assert facts["fitted_on_this_frame"] is False
    assert "networks of other frames" in facts_of(found.document, "product")["risk_judge"]
    with fits.open(product[0]) as hdus:
        assert hdus["SCI"].header["DIPPRIOR"] == digest
        assert hdus["SCI"].header["DIPSTEPS"] == 40


def test_on_its_own_frames_each_network_restores_the_blocks_it_has_not_seen(night, tmp_path):
    target = tmp_path / "out.fits"
    restore_frame(night[0][0], target, quick(night[1].target))
    facts = facts_of(read_provenance(target).document, "prior")
    assert facts["fitted_on_this_frame"] is True
    assert facts["blocks"]["block_px"] == 32


def test_a_frame_is_known_again_by_its_pixels_where_its_file_has_changed(night, other, tmp_path):
    copy = tmp_path / "copy.fits"
    shutil.copy(night[0][0], copy)
    fits.setval(copy, "OBJECT", value="M 13", ext=1)
    prior = PriorFile.read(night[1].target)
    assert file_digest(copy) != file_digest(Path(night[0][0]))
    for path, seen in ((copy, True), (Path(other[0]), False)):
        assert prior.has_seen(open_frame(path)) is seen


def test_the_same_command_on_a_finished_product_is_already_done_and_another_prior_is_not(
    night, stamps, other, product, tmp_path
):
    target, before = product[0], product[0].read_bytes()
    renamed = tmp_path / "renamed.prior"
    shutil.copy(night[1].target, renamed)
    assert restore_frame(other[0], target, quick(renamed)).status == "already done"
    changed = tmp_path / "changed.prior"
    fit_frames(stamps, changed, ONE_STEP)
    for config in (quick(changed), quick()):
        with pytest.raises(OutputError, match="--overwrite"):
            restore_frame(other[0], target, config)
    assert target.read_bytes() == before


def test_the_same_fit_is_the_same_file_and_is_not_done_twice(stamps, tmp_path, monkeypatch):
    first, second = tmp_path / "a.prior", tmp_path / "b.prior"
    for target in (first, second):
        assert fit_frames(stamps, target, ONE_STEP).status == "fitted"
    assert first.read_bytes() == second.read_bytes()
    monkeypatch.setattr("dip_pipeline.restoration.priors.shared_prior.fit_shared_prior", None)
    again = fit_frames(stamps, first, ONE_STEP)
    assert again.status == "already done"
    assert again.steps == 1


def test_a_noise_plane_that_changed_beside_a_frame_is_another_fit(stamps, tmp_path):
    source, noise = tmp_path / "x.fits", tmp_path / "x_rms.fits"
    shutil.copy(stamps[0], source)
    shape = open_frame(source).shape
    given = ONE_STEP.with_overrides(**{"reading.error": str(noise)})
    target = tmp_path / "x.prior"
    fits.writeto(noise, np.full(shape, 5.0, np.float32))
    for status in ("fitted", "already done"):
        assert fit_frames([str(source)], target, given).status == status
    fits.writeto(noise, np.full(shape, 20.0, np.float32), overwrite=True)
    with pytest.raises(OutputError, match="--overwrite"):
        fit_frames([str(source)], target, given)


def test_a_part_of_a_frame_is_another_frame_and_told_of(stamps, tmp_path, caplog):
    """Its blocks would be others: networks would restore what they were fitted on."""
    pixels = np.random.default_rng(5).normal(100, 5, (300, 300)).astype(np.float32)
    for name, part in (("big", pixels), ("cut", pixels[20:-20, 20:-20])):
        fits.writeto(tmp_path / f"{name}.fits", part)
    given = ONE_STEP.with_overrides(**{"noise.sigma": 5.0})
    fit_frames([str(tmp_path / "big.fits")], tmp_path / "big.prior", given)
    prior = PriorFile.read(tmp_path / "big.prior")
    assert prior.has_seen(open_frame(tmp_path / "big.fits"))
    assert "middle of" not in caplog.text
    assert not prior.has_seen(open_frame(tmp_path / "cut.fits"))
    assert "has the middle of big.fits" in caplog.text


def test_a_frame_given_twice_is_refused_by_its_pixels(stamps, tmp_path):
    packed = tmp_path / "packed.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(fits.getdata(stamps[0]))]).writeto(packed)
    for twice in (stamps[0], str(packed)):
        with pytest.raises(FrameError, match=r"the same frame as .*; leave one of them out"):
            fit_frames([*stamps, twice], tmp_path / "n.prior", ONE_STEP)
    assert not (tmp_path / "n.prior").exists()


def test_a_prior_is_not_overwritten_unasked(night, stamps, tmp_path):
    sources, summary = night
    before = summary.target.read_bytes()
    for config in (quick(**{"fit.seed": 1}), quick(**{"fit.effort": "fast"})):
        with pytest.raises(OutputError, match="--overwrite"):
            fit_frames(sources, summary.target, config)
    for name in ("night.fits", "night", "nowhere/night.prior"):
        with pytest.raises(OutputError, match=name):
            fit_frames(sources, tmp_path / name, quick())
    assert summary.target.read_bytes() == before
    mine = tmp_path / "mine.prior"
    mine.write_text("my own notes")
    with pytest.raises(OutputError, match="--overwrite"):
        fit_frames(sources, mine, quick())
    assert mine.read_text() == "my own notes"
    fit_frames(stamps[:1], mine, ONE_STEP, overwrite=True)
    assert len(PriorFile.read(mine).frames) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.prior"]


OTHER_FRAMES = {
    "filter": ({"FILTER": "g"}, r"filter g; .*night.prior: r; .*--any-optics"),
    "pixel scale": (
        {"CD1_1": 1.2e-4, "CD2_2": 1.2e-4, "CD1_2": 0.0, "CD2_1": 0.0},
        r"pixel scale 0.432 arcsec; .*night.prior: 0.4 arcsec; .*--any-optics",
    ),
}


@pytest.mark.parametrize("name", OTHER_FRAMES)
def test_another_filter_or_pixel_scale_is_refused_unless_told(night, tmp_path, name, caplog):
    cards, said = OTHER_FRAMES[name]
    source, _ = write(tmp_path / "in.fits", 5, **cards)
    config = quick(night[1].target)
    with pytest.raises(PriorError, match=said):
        restore_frame(source, tmp_path / "out.fits", config)
    assert any("--any-optics" in note for note in describe_frame(source, config).notes)
    with pytest.raises(PriorError, match="--any-optics"):
        fit_frames([night[0][0], source], tmp_path / "two.prior", quick())
    assert [path.name for path in tmp_path.iterdir()] == ["in.fits"]
    allowed = config.with_overrides(**{"fit.any_optics": True})
    assert restore_frame(source, tmp_path / "out.fits", allowed).ok
    assert "taken all the same" in caplog.text


def bands(path, filters, scales):
    """Chips behind some filters, of some pixel scales in arcsec."""
    rng = np.random.default_rng(len(filters))
    chips = []
    for name, scale in zip(filters, scales, strict=True):
        sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0}
        cards = {"FILTER": name, "CDELT1": -scale / 3600, "CDELT2": scale / 3600} | sky
        pixels = rng.normal(100, 5, (32, 32)).astype(np.float32)
        chips.append(fits.ImageHDU(pixels, fits.Header(cards), name="SCI", ver=len(chips) + 1))
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(path)
    return str(path)


def test_further_planes_of_a_file_behind_another_filter_are_refused_too(tmp_path, caplog):
    alike = bands(tmp_path / "alike.fits", "rr", (0.4, 0.4))
    unlike = bands(tmp_path / "unlike.fits", "rrg", (0.4, 0.4, 0.4))
    known = ONE_STEP.with_overrides(**{"noise.sigma": 5.0})
    prior = fit_frames([alike], tmp_path / "r.prior", known).target
    caplog.clear()
    config = known.with_overrides(**{"fit.prior": str(prior)})
    said = r"unlike\.fits, HDU 3 \(SCI,3\): filter g; .*r\.prior: r; .*--any-optics"
    with pytest.raises(PriorError, match=said):
        restore_frame(unlike, tmp_path / "out.fits", config)
    assert any("HDU 3 (SCI,3): filter g" in note for note in describe_frame(unlike, config).notes)
    assert caplog.messages == []
    chips = open_frames(bands(tmp_path / "chips.fits", "rrr", (0.4, 0.42, 0.41)))
    PriorFile.read(prior).check(chips[0], config, chips[1:])  # of one camera: distortion
    (told,) = caplog.messages
    assert "HDU 2 (SCI,2): pixel scale 0.42 arcsec" in told
    assert told.endswith("taken all the same")


def test_a_plane_that_is_given_by_itself_and_in_its_file_is_refused(tmp_path):
    path = bands(tmp_path / "chips.fits", "rrrr", (0.4,) * 4)
    sources = [f"{path}[SCI,3]", path]
    with pytest.raises(FrameError, match=r"the same frame as .*chips\.fits\[SCI,3\]"):
        fit_frames(sources, tmp_path / "r.prior", ONE_STEP)


@pytest.mark.parametrize(
    ("cards", "warned"),
    [
        ({"FILTER": " R "}, None),  # the same to a person
        ({"CD1_1": 1.13e-4, "CD2_2": 1.13e-4, "CD1_2": 0.0, "CD2_1": 0.0}, None),  # 1.7 %
        ({"FILTER": None}, "filter"),
        ({"CTYPE1": None}, "pixel scale"),
    ],
)
def test_what_a_header_does_not_say_is_warned_of(night, tmp_path, cards, warned, caplog):
    source, _ = write(tmp_path / "in.fits", 5, **cards)
    PriorFile.read(night[1].target).check(open_frame(source), quick())
    said = f"{source}: its header does not tell the {warned}; not compared"
    assert caplog.messages == ([] if warned is None else [said])


def spoilt_files(folder, good):
    """Files that are no priors, or none any more."""
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    files = {
        "flipped": bytes(content),
        "torn": good.read_bytes()[:-7],
        "empty": b"",
        "text": b"not a prior",
        "frame": (folder / "in.fits").read_bytes(),
    }
    for name, data in files.items():
        (folder / f"{name}.prior").write_bytes(data)
    (folder / "folder.prior").mkdir()
    return [folder / f"{name}.prior" for name in (*files, "folder", "missing")]


def test_a_file_that_is_no_prior_or_a_damaged_one_is_one_line(night, tmp_path):
    source = write_stamp(tmp_path / "in.fits", 5)
    for path in spoilt_files(tmp_path, night[1].target):
        with pytest.raises(PriorError, match="give a file that `dip fit` wrote") as caught:
            restore_frame(source, tmp_path / "out.fits", quick(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.fits").exists()


def told_otherwise(path, data, place, value):
    """Write a prior whose record says something else somewhere; None takes it away."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    record = json.loads(header["__metadata__"]["record"])
    *way, last = place
    part = reduce(getitem, way, record)
    if value is None:
        del part[last]
    else:
        part[last] = value
    header["__metadata__"]["record"] = json.dumps(record)
    text = json.dumps(header).encode()
    payload = len(text).to_bytes(8, "little") + text + data[8 + size : -32]
    path.write_bytes(payload + hashlib.sha256(payload).digest())
    return path


def test_weights_that_are_of_another_network_end_the_run_before_it_begins(night, tmp_path):
    """What the file says of itself is read first; its networks are built before any work."""
    data = night[1].target.read_bytes()
    other = told_otherwise(tmp_path / "other.prior", data, ["channels"], [7, 7])
    assert PriorFile.read(other).frames == PriorFile.read(night[1].target).frames
    source = write_stamp(tmp_path / "in.fits", 5)
    with pytest.raises(PriorError, match="weights do not fit; give a file that `dip fit` wrote"):
        restore_frame(source, tmp_path / "out.fits", quick(other))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out.fits")]


CAMERA = ["origin", "frames", 0, "camera"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((["input"], value) for value in (None, 7, "code", ["image"])),
        *((["network"], value) for value in (None, -1, "x\ny")),
        *((["guide_planes"], value) for value in (-1, 10**9, 10**30, "1", 1.5, [])),
        *((["channels"], value) for value in ([10**9, 1], [12], "12", [-1, 1], {"in": 1})),
        *((["networks"], value) for value in (None, 0, 1, 3, -2, 10**9, 2.0, "2", [])),
        *((["report"], value) for value in (None, [], [1, "STEP_LIMIT"], "four", 3)),
        (["report", 0], 10**30), (["report", 1], "NEVER"), (["report", 2], ["low"]),
        (["origin"], []), (["origin", "key"], "key"), (["origin", "key", "algorithm"], None),
        *((["origin", "frames"], value) for value in (None, [], {}, [1], "x")),
        (["origin", "frames", 0, "sha256"], 5), (["origin", "frames", 0, "beside"], "file"),
        *((["origin", "frames", 0, "shape"], value) for value in (3, [3], [3, "x"])),
        (CAMERA, None), ([*CAMERA, "filter"], 7), ([*CAMERA, "pixel_scale_arcsec"], "wide"),
    ],
    ids=str,
)  # fmt: skip
def test_a_prior_that_tells_of_itself_what_cannot_be_is_one_line(night, tmp_path, place, value):
    """Of many such there was a traceback; of a thousand million guides memory was asked for."""
    path = told_otherwise(tmp_path / "x.prior", night[1].target.read_bytes(), place, value)
    with pytest.raises(PriorError, match="give a file that `dip fit` wrote") as caught:
        PriorFile.read(path).load()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 220


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_pixel_without_a_size_is_no_scale(night, tmp_path, scale):
    place = [*CAMERA, "pixel_scale_arcsec"]
    path = told_otherwise(tmp_path / "x.prior", night[1].target.read_bytes(), place, scale)
    path = told_otherwise(path, path.read_bytes(), ["origin", "frames", 1, *place[3:]], scale)
    with pytest.raises(PriorError, match=r"pixel scale 0\.4 arcsec; "):
        PriorFile.read(path).check(open_frame(night[0][0]), quick(path))


def test_a_prior_of_another_version_of_the_algorithm_is_refused(night, monkeypatch):
    monkeypatch.setattr(prior_file, "ALGORITHM_VERSION", -1)
    with pytest.raises(PriorError, match="fit it again"):
        PriorFile.read(night[1].target)


def test_another_network_than_the_priors_is_refused(night, other, tmp_path):
    config = quick(night[1].target, **{"fit.network": "hourglass"})
    with pytest.raises(PriorError, match="--network unet, not hourglass"):
        restore_frame(other[0], tmp_path / "out.fits", config)


@pytest.mark.parametrize("changes", [{"fit.input": "code"}, {"fit.scope": "tile"}])
def test_what_cannot_be_fitted_for_other_frames_is_refused(night, tmp_path, changes):
    with pytest.raises(ConfigError, match="needs --input image, --scope frame"):
        fit_frames(night[0], tmp_path / "n.prior", quick(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"task.name": "super-resolve"},
        {"task.name": "inpaint"},
        {"task.guides": ("g",)},
        {"task.mask": "m.fits"},
    ],
)
def test_a_prior_of_another_task_is_refused_and_not_quietly_one_that_denoises(
    night, tmp_path, changes
):
    with pytest.raises(ConfigError, match=r"denoises; .*leave the table \[task\] out"):
        fit_frames(night[0], tmp_path / "n.prior", quick(**changes))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_restoration_with_a_prior_goes_on_where_it_stopped(
    night, other, product, tmp_path, monkeypatch
):
    target = tmp_path / "out.fits"
    config = quick(night[1].target)

    def full(*arguments, **more):
        raise OutputError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(frame_run, "save_frames", full)
        with pytest.raises(OutputError):
            restore_frame(other[0], target, config)
    report = restore_frame(other[0], target, config)
    assert report.found_done == report.tiles
    with fits.open(target) as again, fits.open(product[0]) as first:
        for name in ("SCI", "DIP_ERR", "DIP_FLAG"):
            assert again[name].data.tobytes() == first[name].data.tobytes()


def as_zarr(source, target):
    with fits.open(source) as hdus:
        group = zarr.open_group(target, mode="w", zarr_format=3)
        group.create_array("science", data=hdus["SCI"].data.astype(np.float32))
        group.create_array("flags", data=hdus["DQ"].data)
        group.attrs["unit"] = "adu"
        group.attrs["cards"] = [
            [card.keyword, card.value, card.comment]
            for card in hdus["SCI"].header.cards
            if card.keyword in ("GAIN", "RDNOISE", "SATURATE", "FILTER")
        ]
    return str(target)


def test_a_zarr_frame_is_fitted_and_restored_like_the_fits_it_came_from(
    night, stamps, other, product, tmp_path
):
    source = as_zarr(other[0], tmp_path / "other.zarr")
    restore_frame(source, tmp_path / "out.zarr", quick(night[1].target))
    out = zarr.open_group(tmp_path / "out.zarr", mode="r")
    with fits.open(product[0]) as hdus:
        np.testing.assert_array_equal(out["science"][:], hdus["SCI"].data)
    stamp = as_zarr(stamps[0], tmp_path / "stamp.zarr")
    weights = []
    for sources in ([stamp, stamps[1]], stamps):
        target = tmp_path / f"{len(weights)}.prior"
        fit_frames(sources, target, ONE_STEP)
        weights.append(PriorFile.read(target).load().networks[0].state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_of_a_mosaic_only_the_chip_of_the_fit_has_been_seen(tmp_path):
    """Chips of one file share its sha256; the networks have seen one of them alone."""
    source = tmp_path / "mosaic.fits"
    chips = []
    for seed in (1, 2):
        with fits.open(write_stamp(tmp_path / f"{seed}.fits", seed)) as hdus:
            chips.append(fits.ImageHDU(hdus["SCI"].data, hdus["SCI"].header, f"CCD{seed}"))
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(source)
    prior, target = tmp_path / "first.prior", tmp_path / "out.fits"
    fit_frames([f"{source}[CCD1]"], prior, ONE_STEP)
    restore_frame(str(source), target, quick(prior, **{"fit.steps": 1}))
    document = read_provenance(target).document
    planes = [facts_of(document, name) for name in names_of(document, "RestoredPlane")]
    assert [plane["prior"]["fitted_on_this_frame"] for plane in planes] == [True, False]


def test_a_prior_that_is_replaced_while_a_run_uses_it_ends_the_run(
    night, other, tmp_path, monkeypatch
):
    """The product would name the one and be made with the other."""
    path = tmp_path / "used.prior"
    path.write_bytes(night[1].target.read_bytes())
    planned = plane_results.restore_tiles

    def replaced(*given):
        path.write_bytes(night[1].target.read_bytes() + b" ")
        return planned(*given)

    monkeypatch.setattr(plane_results, "restore_tiles", replaced)
    with pytest.raises(RunError, match="changed while it was being used"):
        restore_frame(other[0], tmp_path / "out.fits", quick(path))
    assert not (tmp_path / "out.fits").exists()


def test_a_folder_that_takes_no_file_is_told_before_anything_is_fitted(tmp_path, monkeypatch):
    folder = tmp_path / "read_only"
    folder.mkdir()
    monkeypatch.setattr("dip_pipeline.fitting.settle_frame", None)
    # As on a disk that is read-only: who may do everything may write to a folder without a w.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
    with pytest.raises(OutputError, match=r"read_only is read-only, or not yours; give "):
        fit_frames([str(write_stamp(tmp_path / "a.fits", 1))], folder / "a.prior", ONE_STEP)
