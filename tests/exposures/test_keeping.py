"""Laws of what is kept of exposures."""

from dip_pipeline.exposures.keeping import Kept


def test_what_is_kept_is_not_found_again():
    kept, found = Kept(2), []
    for key in "abab":
        assert kept.get_or_find(key, lambda key=key: found.append(key) or key) == key
    assert found == ["a", "b"]


def test_what_nobody_asked_for_the_longest_goes_first():
    kept, found = Kept(2), []
    for key in "abacab":
        kept.get_or_find(key, lambda key=key: found.append(key) or key)
    assert found == ["a", "b", "c", "b"]


def test_sizes_count_and_what_is_too_large_alone_is_found_each_time():
    kept, found = Kept(5, len), []
    for key in ("aa", "bbb", "aa", "bbb", "cccccc", "cccccc", "aa"):
        assert kept.get_or_find(key, lambda key=key: found.append(key) or key) == key
    assert found == ["aa", "bbb", "cccccc", "cccccc", "aa"]
