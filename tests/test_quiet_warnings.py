"""Laws of warnings that are kept from the user: whatever threads do, the process is as it was."""

import threading
import warnings

from dip_pipeline.quiet_warnings import caught_warnings, ignored_warnings


def test_threads_that_ignore_warnings_at_once_leave_them_as_they_were():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def first():
        with ignored_warnings():
            inside.set()
            leave.wait(0.1)  # the second has begun by then

    def second():
        inside.wait()
        with ignored_warnings():
            one.join(0.2)  # with no lock the first would end before this

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    other.start()
    one.join()
    other.join()
    assert list(warnings.filters) == before


def test_each_catches_its_own_also_one_inside_another():
    with caught_warnings() as caught:
        warnings.warn("heard", UserWarning, stacklevel=1)
        with ignored_warnings(RuntimeWarning):
            warnings.warn("of numbers", RuntimeWarning, stacklevel=1)
    assert [str(one.message) for one in caught] == ["heard"]
