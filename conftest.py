"""Which tests share a process, of tests and notebooks alike, where pytest-xdist shares them out."""

import re

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a notebook's cells to one process, with those of the lesson that trained its model; else test by test."""
    from xdist.scheduler import LoadScopeScheduling

    class LessonScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if lesson := re.match(r"notebooks/0[1-4]_(doc|pair)_", nodeid):
                return lesson[1]
            return nodeid.partition("::")[0] if nodeid.startswith("notebooks/") else nodeid

    return LessonScheduling(config, log)
