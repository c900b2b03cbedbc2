"""Laws of the account of a run: it is PROV-JSON, it is complete, and the run can be done again."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits
from prov.model import ProvDocument

from dip_pipeline.cli.main import run
from dip_pipeline.frames import file_digest
from tests.cli.conftest import cut_small_frame, log_kept

FAST = ("--effort", "fast", "--steps", 1, "--tile", 40, "--overlap", 8, "--seed", 5, "--gain", 1.9)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small frame and its product, made once; tests work on copies in the same place."""
    folder = tmp_path_factory.mktemp("made")
    frame = cut_small_frame(folder / "small.fits")
    target = folder / "out.fits"
    with log_kept():
        assert run(["denoise", str(frame), "-o", str(target), *map(str, FAST)]) == 0
    return frame, frame.read_bytes(), target, target.read_bytes()


@pytest.fixture
def product(made):
    """The product, and the frame beside it, as they were made."""
    frame, of_frame, target, of_target = made
    for path in target.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    frame.write_bytes(of_frame)
    target.write_bytes(of_target)
    return target


@pytest.fixture
def small_frame(made):
    return made[0]


def test_the_account_is_prov_json_with_every_input_by_its_digest(dip, small_frame, product):
    code, out, _ = dip("provenance", product, "--json")
    assert code == 0
    document = ProvDocument.deserialize(content=out, format="json")
    assert document.get_records()
    entities = json.loads(out)["entity"]
    digest = file_digest(small_frame)
    assert entities["dip:input"]["dip:sha256"] == digest
    assert entities["dip:mask"]["dip:sha256"] == digest
    assert "DQ" in entities["dip:mask"]["dip:plane"]
    assert entities["dip:configuration"]["dip:fit.seed"] == 5
    (run,) = json.loads(out)["activity"].values()
    assert "--gain" in run["dip:command_line"]["$"]


def test_people_are_told_the_same_in_lines(dip, small_frame, product):
    code, out, _ = dip("provenance", product)
    assert code == 0
    for words in (
        str(small_frame),
        file_digest(small_frame),
        "fit.seed: 5",
        "dip denoise",
        "torch",
    ):
        assert words in out


def test_what_the_account_leaves_empty_is_no_line(dip, small_frame, product):
    _, out, _ = dip("provenance", product)
    parts = [line for line in out.splitlines() if line.startswith("    ")]
    assert parts
    assert [line for line in parts if line.rstrip().endswith(":")] == []


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
def test_a_run_is_repeated_from_its_account_alone_to_the_same_pixels(
    dip, small_frame, product, suffix
):
    moved = small_frame.rename(small_frame.with_name("moved.fits"))
    again = product.with_name(f"again.{suffix}")
    code, _, err = dip("provenance", product, "--repeat", "-o", again)
    assert (code, "--input" in err) == (1, True)
    code, _, err = dip("provenance", product, "--repeat", "-o", again, "--input", moved)
    assert code == 0, err
    if suffix == "zarr":
        back = product.with_name("back.fits")
        assert dip("provenance", again, "--repeat", "-o", back, "--input", moved)[0] == 0
        again = back
    with fits.open(product) as first, fits.open(again) as second:
        for name in ("SCI", "DIP_ERR", "DIP_FLAG"):
            np.testing.assert_array_equal(first[name].data, second[name].data)
        assert first["SCI"].header["DIPCFG"] == second["SCI"].header["DIPCFG"]


def test_another_image_of_the_input_is_refused(dip, small_frame, product):
    again = product.with_name("again.fits")
    other = f"{small_frame}[2]"
    code, _, err = dip("provenance", product, "--repeat", "-o", again, "--input", other)
    assert (code, again.exists()) == (1, False)
    assert f"--input {other}: the product was made of all images of its input" in err


def test_another_input_is_refused(dip, small_frame, product):
    with fits.open(small_frame, mode="update") as hdus:
        hdus["SCI"].data[3, 3] += 1
    code, _, err = dip("provenance", product, "--repeat", "-o", product.with_name("x.fits"))
    assert code == 1
    assert "sha256 differs" in err


def test_another_mask_beside_the_input_or_a_guide_is_refused(dip, small_frame, tmp_path):
    source, guide = tmp_path / "a.fits", tmp_path / "deep.fits"
    pixels = np.random.default_rng(1).normal(100, 5, (40, 40)).astype(np.float32)
    fits.writeto(source, pixels)
    fits.writeto(guide, pixels[::-1] / 5)
    masks = [tmp_path / f"{name}_mask.fits" for name in ("a", "deep")]
    for path in masks:
        fits.writeto(path, np.zeros((40, 40), np.uint8))
    made, again = tmp_path / "out.fits", tmp_path / "again.fits"
    options = ("--guide", guide, "--steps", 1, "--sigma", 5, "--effort", "fast")
    assert dip("denoise", source, "-o", made, *options)[0] == 0
    for path, name in zip(masks, ("a_mask.fits", "guide-1: deep_mask.fits"), strict=True):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[3, 4] = 1
        code, _, err = dip("provenance", made, "--repeat", "-o", again)
        assert code == 1
        assert f"made with other files beside its input: {name}" in err
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[3, 4] = 0


def test_repeating_a_run_with_a_prior_needs_that_prior(dip, product, small_frame):
    prior, target = small_frame.with_name("n.prior"), small_frame.with_name("p.fits")
    assert dip("fit", small_frame, "-o", prior, "--steps", 2, "--effort", "fast")[0] == 0
    assert dip("denoise", small_frame, "-o", target, "--prior", prior)[0] == 0
    again = small_frame.with_name("again.fits")
    assert dip("provenance", target, "--repeat", "-o", again)[0] == 0
    prior.write_bytes(b"another")
    code, _, err = dip("provenance", target, "--repeat", "-o", small_frame.with_name("x.fits"))
    assert (code, "DIPPRIOR" in err) == (1, True)


def test_what_is_no_product_has_no_account(dip, small_frame, product):
    assert dip("provenance", small_frame)[0] == 1
    assert dip("provenance", small_frame.with_name("no.fits"))[0] == 1
    assert dip("provenance", product, "--repeat")[0] == 2


def test_what_was_restored_twice_keeps_both_accounts(dip, product):
    twice = product.with_name("twice.fits")
    assert dip("denoise", product, "-o", twice, *FAST)[0] == 0
    document = json.loads(dip("provenance", twice, "--json")[1])
    (earlier,) = document["bundle"].values()
    assert earlier["entity"]["dip:input"]["dip:file"].endswith("small.fits")
    assert ProvDocument.deserialize(content=json.dumps(document), format="json")
