"""Laws of the endings: one line and the right exit code, whatever happens; no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed  # noqa: F401  (its settings are there before one of them is changed)
import pytest

from dip_pipeline.cli.main import _termination_as_interrupt, run
from dip_pipeline.errors import FrameError, SensorError
from tests.cli.conftest import ENDINGS


def one_error_line(err: str) -> str:
    errors = [line for line in err.splitlines() if line.startswith("dip: error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    return errors[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["denois"], "no such command 'denois'; did you mean denoise?"),
        (["a.fits"], "no such command 'a.fits'; give one of show, denoise,"),
        (["-o", "b.fits", "denoise", "a.fits"], "'-o'. Options of a command stand behind its name"),
        (["denoise"], "INPUT"),
        (["denoise", "a.fits"], "--out"),
        (["denoise", "a.fits", "-o", "b.fits", "--step", "3"], "--steps"),
        (["denoise", "a.fits", "-o", "b.fits", "--steps", "three"], "three"),
        (["denoise", "a.fits", "-o", "b.fits", "--steps", "0"], "--steps"),
        (["denoise", "a.fits", "-o", "b.fits", "--tile", "64", "--overlap", "32"], "overlap"),
        (["denoise", "a.fits", "-o", "b.fits", "--noise", "pink"], "pink"),
        (["denoise", "a.fits", "-o", "b.fits", "--sigma", "nan"], "--sigma"),
        (["denoise", "a.fits", "-o", "b.fits", "--workers", "2"], "--executor local"),
        (["denoise", "a.fits", "-o", "b.fits", "--device", "tpu"], "tpu"),
        (["denoise", "a.fits", "-o", "b.fits", "--threads-per-fit", "100000"], "--threads-per-fit"),
        (["denoise", "a.fits", "b.fits", "-o", "c.fits"], "folder"),
        (["denoise", "n1/a.fits", "n2/a.fits", "-o", "out/"], "a_dip.fits"),
        (["denoise", "a.fits", "a_dip.fits", "-o", "."], "is an input"),
        (["denoise", "a.fits", "-o", "b.fits", "--effort", "most"], "most"),
        (["denoise", "a.fits", "-o", "b.fits", "--prior", "n", "--scope", "tile"], "--scope tile"),
        (["fit", "a.fits"], "--out"),
        (["fit", "-o", "n.prior"], "FRAME"),
        (["fit", "a.fits", "-o", "n.prior", "--tile", "64"], "--tile"),
        (["show", "a.fits", "--gain", "-1"], "--gain"),
        (["show", "a.fits", "--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_a_command_line_that_cannot_be_used_is_one_line_and_exit_code_2(
    dip, restored_jobs, monkeypatch, tmp_path, arguments, said
):
    monkeypatch.chdir(tmp_path)
    code, out, err = dip(*arguments)
    assert code == 2
    assert said in one_error_line(err)
    assert not out
    assert not restored_jobs
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_of_the_configuration_names_the_nearest(dip, restored_jobs, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[tiles]\nsize_pixels = 128\n")
    code, _, err = dip("denoise", "a.fits", "-o", tmp_path / "b.fits", "--config", path)
    assert code == 2
    assert "size_px" in one_error_line(err)


def test_no_arguments_at_all_show_the_help(dip):
    code, out, err = dip()
    assert code == 2
    assert "Commands:" in out + err


@pytest.mark.parametrize("command", ["denoise", "show"])
@pytest.mark.parametrize("source", ["missing.fits", ".", "text.fits", "empty.fits", "locked.fits"])
def test_an_input_that_is_no_image_is_one_line_and_exit_code_1(
    dip, monkeypatch, tmp_path, command, source
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.fits").write_text("not an image")
    (tmp_path / "empty.fits").touch()
    (tmp_path / "locked.fits").touch()
    (tmp_path / "locked.fits").chmod(0)
    out = ["-o", "out.fits"] if command == "denoise" else []
    code, said, err = dip(command, source, *out)
    assert code == 1
    assert source in one_error_line(err)
    assert not said
    assert not (tmp_path / "out.fits").exists()


@pytest.mark.parametrize(
    ("address", "ends", "said"),
    [
        ("tls://127.0.0.1:9", 2, "no TLS settings"),
        ("tcp://127.0.0.1:9", 1, "0 of 2 frames had ended"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_one_line_for_all_frames(
    dip, small_frame, tmp_path, address, ends, said
):
    other = tmp_path / "other.fits"
    other.write_bytes(small_frame.read_bytes())
    out = tmp_path / "out"
    with dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}):
        code, _, err = dip("denoise", small_frame, other, "-o", out, "--scheduler", address)
    assert code == ends
    assert said in one_error_line(err)


@pytest.mark.parametrize("content", [None, b"", b"no prior"])
def test_a_prior_that_is_none_is_one_line_for_all_frames_and_exit_code_1(
    dip, restored_jobs, tmp_path, content
):
    path = tmp_path / "night.prior"
    if content is not None:
        path.write_bytes(content)
    code, out, err = dip("denoise", "a.fits", "b.fits", "-o", tmp_path / "out", "--prior", path)
    assert code == 1
    assert "night.prior" in one_error_line(err)
    assert not out
    assert not restored_jobs


@pytest.mark.parametrize(
    ("sources", "target", "said"),
    [
        (["missing.fits"], "n.prior", "missing.fits"),
        (["small.fits"], "n.fits", ".prior"),
        (["small.fits"], "nowhere/n.prior", "nowhere"),
        (["small.fits"], "taken.prior", "--overwrite"),
    ],
)
def test_a_fit_that_cannot_be_done_is_one_line_and_exit_code_1(
    dip, monkeypatch, small_frame, sources, target, said
):
    monkeypatch.chdir(small_frame.parent)
    taken = small_frame.with_name("taken.prior")
    taken.write_text("mine")
    code, out, err = dip("fit", *sources, "-o", target, "--steps", 1)
    assert code == 1
    assert said in one_error_line(err)
    assert not out
    assert taken.read_text() == "mine"


@pytest.mark.parametrize("target", ["small.fits", "nowhere/out.fits", "out.jpg", "taken.fits"])
def test_an_output_that_must_not_be_written_is_one_line_and_exit_code_1(
    dip, monkeypatch, small_frame, target
):
    monkeypatch.chdir(small_frame.parent)
    taken = small_frame.with_name("taken.fits")
    taken.write_text("mine")
    before = small_frame.read_bytes()
    overwrite = ["--overwrite"] if target == "small.fits" else []
    code, _, err = dip("denoise", small_frame.name, "-o", target, *overwrite)
    assert code == 1
    assert target in one_error_line(err)
    assert taken.read_text() == "mine"
    assert small_frame.read_bytes() == before


@pytest.mark.parametrize(("asked", "written"), [((), ""), (("-o", ""), "results")])
def test_no_results_go_to_a_folder_without_a_name(dip, tmp_path, asked, written):
    """With its slash it would be the root of the disk."""
    workflow = tmp_path / "work.toml"
    workflow.write_text(f"[frames]\ninputs = ['a.fits']\nout = '{written}'\n")
    code, _, err = dip("run", workflow, *asked, "--dry-run")
    assert code == 2
    assert "empty name" in one_error_line(err)


REFUSED = {
    "a prior with another task": "task = 'super-resolve'\nprior.shared = 'night'\n",
    "a factor with --each": "task = {name = 'combine', each = true, factor = 2}\n",
}


@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED)
def test_a_plan_is_refused_where_the_run_would_be(dip, tmp_path, small_frame, asked):
    workflow = tmp_path / "work.toml"
    workflow.write_text(f"{asked}[frames]\ninputs = ['{small_frame}']\nout = '{tmp_path}/out'\n")
    code, out, err = dip("run", workflow, "--dry-run")
    assert (code, out) == (2, "")
    assert err == dip("run", workflow)[2]


def test_a_plan_tells_which_outputs_are_there(dip, tmp_path, small_frame):
    """They are left alone, or refused; nobody should wait for them."""
    workflow, there = tmp_path / "work.toml", tmp_path / f"{small_frame.stem}_dip.fits"
    workflow.write_text(f"[frames]\ninputs = ['{small_frame}']\nout = '{tmp_path}'\n")
    assert dip("run", workflow, "--dry-run")[1] == f"{small_frame} -> {there}\n"
    there.touch()
    told = f"{small_frame} -> {there}: exists already\n"
    assert dip("run", workflow, "--dry-run")[1] == told
    workflow.write_text(workflow.read_text() + "overwrite = true\n")
    assert dip("run", workflow, "--dry-run")[1] == told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment"), "failed to map segment"),
        (MemoryError(), "no memory left"),
    ],
)
def test_a_library_that_memory_has_no_room_for_is_one_line(monkeypatch, capsys, error, said):
    def load(_name):
        raise error

    monkeypatch.setattr("dip_pipeline.cli.main.importlib.import_module", load)
    assert run(["denoise", "a.fits", "-o", "b.fits"]) == 1
    line = one_error_line(capsys.readouterr().err)
    assert said in line
    assert "ulimit" in line


@pytest.mark.parametrize(
    "error",
    [
        FrameError("bad.fits: truncated;\nget a complete copy"),
        SensorError("no gain"),
        OSError(28, "No space left on device"),
        MemoryError(),
    ],
)
def test_what_a_frame_causes_is_one_line_that_names_it(dip, restored_jobs, tmp_path, error):
    ENDINGS["bad"] = error
    code, _, err = dip("denoise", "bad.fits", "-o", tmp_path / "out.fits")
    assert code == 1
    assert "bad.fits" in one_error_line(err)


def test_one_bad_frame_does_not_stop_the_others(dip, restored_jobs, tmp_path):
    ENDINGS["bad"] = FrameError("bad.fits: truncated")
    code, out, err = dip("denoise", "a.fits", "bad.fits", "c.fits", "-o", tmp_path / "night")
    assert code == 1
    assert [target.name for _, target in restored_jobs] == [
        "a_dip.fits",
        "bad_dip.fits",
        "c_dip.fits",
    ]
    assert "3 frames: 2 restored, 1 failed" in out
    one_error_line(err)


def test_a_failed_tile_changes_the_exit_code(dip, restored_jobs, tmp_path):
    assert dip("denoise", "good.fits", "-o", tmp_path / "a.fits")[0] == 0
    code, out, _ = dip("denoise", "halfway.fits", "-o", tmp_path / "b.fits")
    assert code == 1
    assert "b.fits: 3 of 4 tiles restored in" in out
    assert "1 of 4 tiles FAILED" in out


def test_an_interruption_says_how_to_go_on(dip, restored_jobs, tmp_path):
    ENDINGS["a.fits"] = KeyboardInterrupt()
    code, _, err = dip("denoise", "a.fits", "b.fits", "-o", tmp_path / "night")
    assert code == 130
    assert err.splitlines()[-1] == "dip: interrupted; the same command resumes"
    assert len(restored_jobs) == 1


def test_an_interruption_of_what_keeps_nothing_says_so(dip, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dip_pipeline.frames.converting.prepare", stopped)
    for options in ((), ("-v",)):
        code, _, err = dip(*options, "convert", __file__, "-o", "x.zarr")
        assert code == 130
        told = "dip: interrupted; run the same command again, it begins anew"
        assert err.splitlines()[-1] == told


def test_the_handler_of_signals_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    run(["--version"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_is_gone_ends_nothing_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _termination_as_interrupt():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_process_as_ctrl_c_does(number, tmp_path):
    program = (
        "import signal, time, sys\n"
        # The tests may run under nohup, or in the background.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from dip_pipeline.batch import batch\n"
        "from dip_pipeline.cli.main import main\n"
        "def wait(*arguments, **options):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "batch.restore_frames = wait\n"
        "main(['denoise', 'a.fits', '-o', sys.argv[1]])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out.fits")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            started = time.monotonic()
            os.kill(child.pid, number)
            _, err = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 130
    assert err.splitlines()[-1] == "dip: interrupted; the same command resumes"
    assert "Traceback" not in err
    assert time.monotonic() - started < 20


def unread(program, stream):
    """Run a program that waits for a line, and read all but one stream: exit code and stderr."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # buffered, as users have it
    ) as child:
        try:
            getattr(child, stream).close()
            child.stdin.write("go\n")
            child.stdin.close()
            err = "" if stream == "stderr" else child.stderr.read()
            child.wait(timeout=30)
        finally:
            child.kill()
    return child.returncode, err


def test_nobody_reading_the_report_is_no_failure():
    program = (
        "import sys\n"
        "from dip_pipeline.cli.output import say\n"
        "sys.stdin.readline()\n"
        "say('x' * 100_000)\n"
        "say('again')\n"
    )
    assert unread(program, "stdout") == (0, "")


RESTORING = (
    "import sys\n"
    "from dip_pipeline.runs import ways\n"
    "from dip_pipeline.cli.main import main\n"
    "from tests.stand_in import arithmetic\n"
    "ways.restore = arithmetic\n"
    "quick = '--sigma 5 --device cpu --steps 1 --effort fast --threads-per-fit 1'.split()\n"
    "main(['denoise', *sys.argv[1:], *quick])\n"
)


@pytest.mark.parametrize("closed", [">&- 2>&-", pytest.param("2> >(true)", marks=pytest.mark.slow)])
def test_a_frame_is_restored_whoever_reads_what_is_told(small_frame, tmp_path, closed):
    """Progress that nobody reads is no failure of the frame; nor is a stream that is closed."""
    target = tmp_path / "out.fits"
    command = f'sleep 0.2; exec "{sys.executable}" -c "$0" "$1" -o "$2" {closed}'
    done = subprocess.run(
        ["bash", "-c", command, RESTORING, str(small_frame), str(target)], timeout=120, check=False
    )
    assert done.returncode == 0
    assert target.exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_words_that_nobody_reads_at_the_end_change_no_exit_code(stream):
    program = (
        "import sys\n"
        "from dip_pipeline.cli import main\n"
        f"main.run = lambda _: (sys.{stream}.write('unread'), 3)[1]\n"
        "sys.stdin.readline()\n"
        "main.main()"
    )
    assert unread(program, stream) == (3, "")


@pytest.mark.parametrize(("code", "ends"), [(0, 1), (3, 3)])
def test_words_that_a_full_disk_does_not_take_are_told_in_one_line(code, ends):
    program = (
        "import sys\n"
        "from dip_pipeline.cli import main\n"
        f"main.run = lambda _: (sys.stdout.write('unwritten'), {code})[1]\n"
        "main.main()"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == ends
    assert done.stderr.count("\n") == (code == 0)
    assert ("No space left" in done.stderr) is (code == 0)


def test_libraries_that_load_where_streams_are_closed_find_some():
    """Some versions of NumPy and SciPy take `sys.stderr.write` for a name of their own."""
    program = (
        "import sys\n"
        "from dip_pipeline.cli import main\n"
        "main.run = lambda _: sys.stdout.write('1') + sys.stderr.write('22')\n"
        "main.main()"
    )
    command = f'exec "{sys.executable}" -c "$0" >&- 2>&-'
    done = subprocess.run(["bash", "-c", command, program], timeout=60, check=False)
    assert done.returncode == 3


def test_names_that_no_encoding_has_letters_for_are_told(small_frame, tmp_path):
    source, target = (tmp_path / os.fsdecode(b"m\xff" + end) for end in (b".fits", b"_dip.fits"))
    small_frame.rename(source)
    done = subprocess.run(
        [sys.executable, "-c", RESTORING, source, "-o", target],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"_dip.fits" in done.stdout
    assert target.exists()
