"""Laws of what a command loads: torch is large, and comes where there is something to compute."""

import subprocess
import sys

import pytest

from dip_pipeline.cli.main import run
from tests.cli.conftest import cut_small_frame, log_kept

FAST = ("--steps", "1", "--tile", "40", "--overlap", "8", "--gain", "1.9")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    frame = cut_small_frame(folder / "small.fits")
    with log_kept():
        assert run(["denoise", str(frame), "-o", str(folder / "out.fits"), *FAST]) == 0
    return folder / "out.fits"


def test_commands_that_compute_nothing_load_neither_torch_nor_dask(product):
    program = (
        "import sys\n"
        "from dip_pipeline.cli.main import run\n"
        "def loads(*arguments):\n"
        "    code = run(arguments)\n"
        "    heavy = sorted({'torch', 'dask', 'distributed'} & {*sys.modules})\n"
        "    assert (code, heavy) == (0, []), (arguments, code, heavy)\n"
        "loads('verify', 'out.fits', '--against', 'small.fits')\n"
        "loads('provenance', 'out.fits')\n"
        "loads('status', 'out.fits')\n"
        "loads('clean', 'out.fits')\n"
        "loads('finish', 'out.fits')\n"
        "loads('convert', 'small.fits', '-o', 'small.zarr')\n"
        "loads('report', 'out.fits', '-o', 'night.html', '--no-pictures')\n"
        "loads('run', 'night.toml', 'small.fits', 'out.fits', '-o', 'restored/', '--dry-run')\n"
    )
    (product.parent / "night.toml").write_text("[prior]\nshared = 'night'\n")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=product.parent,
    )
    assert done.returncode == 0, done.stderr
