"""Which tests share a process, of tests and notebooks alike, where pytest-xdist shares them out."""

import re

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a notebook's cells to one process, with those of the lesson that trained its model; else test by test."""
    from xdist.scheduler import LoadScopeScheduling

    class LessonScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            lesson = re.match(r"notebooks/(0[12]_doc|0[34]_pair|0\d)", nodeid)
            return lesson[1][-3:] if lesson else nodeid

    return LessonScheduling(config, log)
