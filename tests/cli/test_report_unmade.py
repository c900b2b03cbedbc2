"""Laws of frames without a product: the page of a night names them, and no more once they have."""

import json
import os
import re
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline import pipeline
from dip_pipeline.batch.summary import Summary
from dip_pipeline.engine import RunDirectory
from dip_pipeline.errors import BrokenProcessError
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.night import unmade
from dip_pipeline.night.unmade import word_of
from dip_pipeline.runs import ways
from tests.cli.test_report import as_it_is, product

QUICK = (*("--scope", "tile", "--tile", "48", "--overlap", "8", "-q"), "--threads-per-fit", "1")
NOTE = "No run left word in"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path):
    monkeypatch.setattr(ways, "restore", as_it_is)
    monkeypatch.chdir(tmp_path)
    yield
    close_files()


@pytest.fixture
def night(tmp_path):
    """Two good frames and one that is none; nothing of them is restored."""
    for number in (0, 1):
        product(tmp_path, number)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "bad.fits").write_text("no image")
    return tmp_path


def denoise(dip, *names, out="out/", more=()):
    return dip("denoise", *names, "-o", out, *QUICK, *more)[0]


def page_of(dip, *given):
    """Give what the report says, and the text of the page without its tags."""
    code, out, err = dip("report", *given, "-o", "night.html", "--no-pictures", "--overwrite")
    with open("night.html", encoding="utf-8") as stream:  # noqa: PTH123  (the working folder)
        text = stream.read()
    return code, out + err, " ".join(re.sub(r"<[^>]*>", " ", text[text.index("<body>") :]).split())


def summary(folder, *frames, name="summary.json", **more):
    """Write what a run leaves of frames (source, status, error, ended)."""
    keys = ("source", "status", "error", "ended")
    told = [dict(zip(keys, each, strict=False)) for each in frames]
    for each in told:
        each["target"] = f"elsewhere/{each['source'].removesuffix('.fits')}_dip.fits"
    facts = {"exit_code": 1, "started": "2026-01-02T03:00:00+00:00", "frames": told}
    (folder / name).write_text(json.dumps(facts | more))


def ends(folder):
    return [(each.source, each.status) for each in word_of([folder]).unmade]


def test_a_frame_that_failed_is_at_the_top_of_the_page_with_its_reason(dip, night):
    assert denoise(dip, "f0.fits", "bad.fits", "f1.fits") == 1
    code, out, page = page_of(dip, "out")
    assert code == 0
    assert out.startswith("2 frames, 1 failed -> night.html\nbad.fits: failed: ")
    assert re.search(r"1 failed .*Without a product .* bad\.fits failed 20\d\d-.*FITS", page)
    assert page.index("bad.fits") < page.index("f0_dip.fits")
    assert NOTE not in page


def test_a_frame_that_is_restored_later_is_told_no_more(dip, night):
    """By the same command, by another one of several frames, or alone."""
    again = {
        "all": ("f0.fits", "bad.fits"),
        "others": ("bad.fits", "f1.fits"),
        "alone": ("bad.fits",),
    }
    for name, words in again.items():
        (night / "bad.fits").write_text("no image")
        assert denoise(dip, "f0.fits", "bad.fits", out=f"{name}/") == 1
        assert ends(night / name) == [("bad.fits", "failed")]
        shutil.copy("f1.fits", "bad.fits")
        assert denoise(dip, *words, out=f"{name}/") == 0
        assert ends(night / name) == []
        assert "bad.fits" not in page_of(dip, name)[2]


def test_a_failure_stays_told_while_other_frames_are_restored(dip, night):
    denoise(dip, "f0.fits", "bad.fits")
    for _ in range(2):
        assert denoise(dip, "f0.fits", "f1.fits") == 0
        assert ends(night / "out") == [("bad.fits", "failed")]
    (told,) = json.loads((night / "out" / "summary.json").read_text())["earlier"]
    assert "FITS" in told["error"]


def test_frames_that_a_stopped_run_did_not_reach_are_told_with_what_stopped_it(
    dip, night, monkeypatch
):
    restored = pipeline.restore_frame

    def ends_there(source, *args, **options):
        if source == "f1.fits":
            raise BrokenProcessError("the workers are gone")
        return restored(source, *args, **options)

    monkeypatch.setattr(pipeline, "restore_frame", ends_there)
    assert denoise(dip, "f0.fits", "f1.fits", "bad.fits") == 1
    _, out, page = page_of(dip, "out")
    assert "1 frame, 2 waiting -> " in out
    assert "bad.fits, f1.fits: waiting: the workers are gone" in out
    assert re.search(r"bad\.fits, f1\.fits waiting .* the workers are gone", page)


def test_a_run_that_was_killed_and_one_that_is_at_work_are_told_apart(dip, night, monkeypatch):
    waiting = ("a.fits", "waiting")
    (night / "out").mkdir()
    summary(night / "out", waiting, exit_code=None)
    assert word_of([night / "out"]).unmade[0].why == "the run was killed"
    seen = []
    begun = Summary.begin

    def begin(self):
        begun(self)
        seen.extend(each.why for each in word_of([night / "out"]).unmade)

    monkeypatch.setattr(Summary, "begin", begin)
    denoise(dip, "f0.fits", "f1.fits")
    assert set(seen) == {"the run was killed", "the run is at work"}


def test_a_frame_that_fails_alone_in_a_folder_is_told_until_it_is_restored(dip, night):
    assert denoise(dip, "bad.fits") == 1
    assert ends(night / "out") == [("bad.fits", "failed")]
    code, out, page = page_of(dip, "out")
    assert (code, "1 failed -> " in out, NOTE in page) == (0, True, False)
    shutil.copy("f1.fits", "bad.fits")
    assert denoise(dip, "bad.fits") == 0
    assert ends(night / "out") == []


def test_frames_that_fail_one_by_one_are_all_told_and_a_run_of_several_keeps_its_own(dip, night):
    (night / "worse.fits").write_text("none either")
    assert denoise(dip, "f0.fits", "f1.fits") == 0
    before = json.loads((night / "out" / "summary.json").read_text())
    for name in ("bad.fits", "worse.fits", "bad.fits"):
        assert denoise(dip, name, out=f"out/{name[:-5]}_dip.fits") == 1
    failed = [("bad.fits", "failed"), ("worse.fits", "failed")]
    assert sorted(ends(night / "out")) == failed
    after = json.loads((night / "out" / "summary.json").read_text())
    assert len(after.pop("earlier")) == 2
    assert before.pop("earlier") == []
    assert after == before
    assert denoise(dip, "f0.fits", "f1.fits", more=("--overwrite",)) == 0
    assert sorted(ends(night / "out")) == failed


def test_one_file_that_fails_leaves_nothing_where_no_run_left_word(dip, night):
    names = sorted(path.name for path in night.iterdir())
    assert denoise(dip, "bad.fits", out="bad_dip.fits") == 1
    assert sorted(path.name for path in night.iterdir()) == names


def test_shards_that_fail_leave_word_and_those_that_end_leave_none(dip, night):
    (night / "alone").mkdir()
    for number in (1, 2):
        more = ("--shard", f"{number}/2")
        assert denoise(dip, "f0.fits", "bad.fits", more=more) == 1
        assert denoise(dip, "bad.fits", out="alone/bad_dip.fits", more=more) == 1
    told = {end: name for name, end in ends(night / "out")}
    assert (told["failed"], told["unfinished"]) == ("bad.fits", str(night / "f0.fits"))
    assert ends(night / "alone") == [("bad.fits", "failed")]
    assert "FITS" in page_of(dip, "alone")[2]


def test_a_frame_that_fails_beside_a_run_at_work_leaves_its_summary_alone(dip, night, monkeypatch):
    begun = Summary.begin

    def begin(self):
        begun(self)
        assert denoise(dip, "bad.fits", out="out/bad_dip.fits") == 1

    monkeypatch.setattr(Summary, "begin", begin)
    denoise(dip, "f0.fits", "f1.fits")
    assert ends(night / "out") == [("bad.fits", "failed")]
    assert "f1.fits" in (night / "out" / "summary.json").read_text()


def test_the_status_of_a_frame_that_failed_says_so(dip, night):
    assert denoise(dip, "f0.fits", "bad.fits") == 1
    code, out, err = dip("status", "out/bad_dip.fits", "out/f0_dip.fits")
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert re.match(r"out/bad_dip.fits: failed: .*FITS.*20\d\d-", first)
    assert second.startswith("out/f0_dip.fits: finished")
    summary(night / "out", ("f0.fits", "failed", "no image", "2999-01-01T00:00:00+00:00"))
    code, out, _ = dip("status", "out/f0_dip.fits")
    assert code == 1
    assert out.startswith("out/f0_dip.fits: failed: no image (what is there is of an earlier run)")


def test_the_status_of_a_folder_is_that_of_its_night(dip, night):
    assert denoise(dip, "f0.fits", "bad.fits") == 1
    code, out, err = dip("status", "out/")
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first == "out/: 1 product, 1 failed"
    assert second.startswith("  bad.fits: failed: ")
    assert denoise(dip, "f0.fits", "f1.fits", out="whole/") == 0
    assert dip("status", "whole")[:2] == (0, "whole: 2 products\n")
    code, _, err = dip("status", ".")
    assert code == 1
    assert "no product" in err


def test_a_night_of_which_all_failed_has_a_page(dip, night):
    (night / "worse.fits").write_text("none either")
    assert denoise(dip, "bad.fits", "worse.fits") == 1
    code, out, page = page_of(dip, "out")
    assert code == 0
    assert out.startswith("0 frames, 2 failed -> ")
    assert "worse.fits" in page
    assert dip("report", "out", "-o", "out/summary.json", "--overwrite")[0] == 1
    assert "worse.fits" in (night / "out" / "summary.json").read_text()


def test_where_no_run_left_word_the_page_says_that_it_cannot_know(dip, night):
    assert denoise(dip, "f0.fits", out="alone/") == 0
    assert f"{NOTE} alone of how" in page_of(dip, "alone")[2]
    denoise(dip, "f0.fits", "f1.fits")
    assert NOTE not in page_of(dip, "out")[2]
    assert f"{NOTE} alone of how" in page_of(dip, "out", "alone")[2]


def test_products_that_are_named_bring_the_word_of_their_folder(dip, night):
    denoise(dip, "f0.fits", "bad.fits")
    assert "1 frame, 1 failed" in page_of(dip, "out/f0_dip.fits")[1]


def test_an_older_product_does_not_hide_that_the_last_run_failed(dip, night):
    denoise(dip, "f0.fits", "f1.fits")
    summary(night / "out", ("f0.fits", "failed", "f0.fits: of other options", "2126-01-01T00:00"))
    _, out, page = page_of(dip, "out")
    assert "f0.fits: failed: of other options (what is there is of an earlier run)" in out
    assert "is of an earlier run" in page
    now = datetime.now(UTC).isoformat()
    summary(night / "out", ("f0.fits", "waiting", "", now))
    assert ends(night / "out") == []  # what is there will do


def test_of_several_summaries_the_last_word_of_a_frame_counts(night):
    early, late = "2026-01-02T03:00:01+00:00", "2026-01-02T05:00:00+01:00"
    summary(night, ("a.fits", "failed", "a", early), ("b.fits", "restored", "", early))
    frames = (("a.fits", "restored", "", late), ("b.fits", "failed", "b", late))
    summary(night, *frames, name="summary-2.json")
    assert ends(night) == [("b.fits", "failed")]
    summary(night, *frames, name="summary.old.json")
    (night / "summary-2.json").unlink()
    assert ends(night) == [("a.fits", "failed")]


def test_a_summary_that_cannot_be_read_is_told(dip, night):
    made = product(night, 5)
    (made.parent / "summary.json").write_text('{"exit_code": 0, "frames"')
    code, out, page = page_of(dip, "out")
    assert code == 0
    assert "summary.json: cannot be read (it is no JSON)" in out
    assert "summary.json: cannot be read (it is no JSON)" in page
    assert NOTE in page


def test_a_file_of_that_name_that_is_no_summary_is_left_alone(dip, night):
    (night / "out").mkdir()
    for mine in (b'{"my": "notes"}', b"notes", b"\xff\x00"):
        (night / "out" / "summary.json").write_bytes(mine)
        denoise(dip, "f0.fits", "bad.fits")
        assert (night / "out" / "summary.json").read_bytes() == mine
        assert ends(night / "out") == [("bad.fits", "failed")]


def test_a_command_that_cannot_be_used_leaves_the_last_word_as_it_was(dip, night):
    unused = ("f0.fits", "f1.fits"), {"more": ("--device", "cuda:77")}
    assert denoise(dip, *unused[0], **unused[1]) == 2
    assert not (night / "out").exists()
    denoise(dip, "f0.fits", "bad.fits")
    before = (night / "out" / "summary.json").read_bytes()
    assert denoise(dip, *unused[0], **unused[1]) == 2
    assert (night / "out" / "summary.json").read_bytes() == before
    assert {path.name for path in (night / "out").iterdir()} == {"f0_dip.fits", "summary.json"}


def test_where_workers_cannot_be_had_all_frames_wait(dip, night, monkeypatch):
    def gone(*_, **__):
        raise BrokenProcessError("no scheduler")

    monkeypatch.setattr(pipeline, "restore_frame", gone)
    assert denoise(dip, "f0.fits", "f1.fits") == 1
    told = word_of([night / "out"]).unmade
    assert {(each.status, each.why.partition(" (")[0]) for each in told} == {
        ("waiting", "no scheduler")
    }
    assert len(told) == 2


def test_a_summary_that_cannot_be_written_costs_no_frame(dip, night, caplog):
    (night / "out" / "summary.json").mkdir(parents=True)
    assert denoise(dip, "f0.fits", "f1.fits") == 0
    assert (night / "out" / "f1_dip.fits").exists()


def test_an_unfinished_frame_is_told_by_its_scratch(night):
    @contextmanager
    def begun(name):
        about = {"source": f"/night/{name}.fits", "tiles": 9}
        with RunDirectory.open(night / "out" / f"{name}_dip.fits.dip", {"k": 1}, about=about):
            yield

    made = product(night, 5)  # finished, its scratch left behind
    with begun("a"), begun("f5"):
        assert ends(night / "out")[0] == ("/night/a.fits", "in work")
    (told,) = word_of([night / "out"]).unmade
    assert (told.status, told.product.name) == ("unfinished", "a_dip.fits")
    assert told.why == "0 of 9 tiles are done; the same command goes on with it"
    summary(night / "out", ("a.fits", "waiting"), exit_code=None)
    assert ends(night / "out") == [("a.fits", "unfinished")]
    summary(night / "out", ("a.fits", "failed", "no memory"))
    assert ends(night / "out") == [("a.fits", "failed")]
    made.unlink()


def test_frames_of_one_end_are_told_together(dip, night):
    frames = [("bad.fits", "failed", "bad.fits: no image")]
    frames += [(f"{n:04d}.fits", "waiting") for n in range(3000)]
    summary(product(night, 5).parent, *frames, exit_code=130)
    _, out, page = page_of(dip, "out")
    assert len(out.splitlines()) == 3
    assert "0003.fits, ...: waiting: the run was interrupted" in out
    assert "3000 waiting" in page
    assert "0011.fits and 2988 more 0012.fits" in page


def test_a_name_of_two_lines_is_told_in_one(dip, night):
    (night / "new\nline.fits").write_text("no image")
    denoise(dip, "f0.fits", "new\nline.fits")
    _, out, page = page_of(dip, "out")
    assert out.splitlines()[1].startswith("new line.fits: failed: not a FITS file")
    assert page.count("new line.fits") == 1


def test_names_and_reasons_of_any_bytes_are_text_on_the_page(dip, night):
    named = os.fsdecode(b"caf\xe9<b>.fits")
    frames = ((named, "failed", "\ud800 & <i>"), ("\ud800.fits", "failed"))
    summary(product(night, 5).parent, *frames)
    page = page_of(dip, "out", "-q")[2]
    assert "caf\ufffd&lt;b&gt;.fits failed" in page
    assert "? &amp; &lt;i&gt;" in page


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("failed"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["frames", "earlier", "source", "target", "status", "ended", "error"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(content=st.dictionaries(st.sampled_from(["frames", "started", "error"]), _JSON), code=_JSON)
def test_nothing_that_a_summary_may_hold_stops_a_page(tmp_path_factory, content, code):
    folder = tmp_path_factory.mktemp("any")
    (folder / "summary.json").write_text(json.dumps({**content, "exit_code": code}))
    assert not word_of([folder]).unread
    assert {each.status for each in word_of([folder]).unmade} <= set(unmade.ENDS)
