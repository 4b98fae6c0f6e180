"""Which tests share a process, of tests and notebooks alike, where pytest-xdist shares them out."""

import re

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a file's tests to one process, and a lesson that deploys to the one in which its model is trained."""
    from xdist.scheduler import LoadFileScheduling

    class LessonScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            lesson = re.match(r"notebooks/0([1-4])_(doc|pair)", nodeid)
            return lesson[2] if lesson else super()._split_scope(nodeid)

    return LessonScheduling(config, log)
