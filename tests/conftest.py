"""What every test stands on: the environment, set before anything of ours is imported, and the things outside the tree.

A test that drives a browser is marked `browser` and asks for `chromium`; one that reads real data asks for `shared_data`.
"""

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

for name in [name for name in os.environ if name.startswith("HILUM_")]:
    del os.environ[name]  # a person's own settings are not what is tested
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the other cores have a browser, a server or the other half of the tests
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

IN_CI = os.environ.get("CI", "").lower() in {"true", "1"}
NO_DATA = "No shared/data folder beside the project."
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

settings.register_profile("hilum", settings.get_profile("ci" if IN_CI else "default"), deadline=None)
settings.load_profile("hilum")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's browser; playwright is to be given it as `executable_path`."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"No browser: none of {', '.join(BROWSERS)} is on the PATH.")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images and reports that lie beside the project's own folder and are never part of it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(NO_DATA)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """In CI a browser test that skips has failed, unless it is for want of real data: nobody looked at the page."""
    report = yield
    reason = str(call.excinfo.value) if call.excinfo else ""
    may_skip = reason == NO_DATA or hasattr(report, "wasxfail")
    if IN_CI and report.skipped and not may_skip and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"A browser test may not skip where CI=true. {reason}"
    return report
