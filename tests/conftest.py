import shutil

import pytest
from runs import call


def pytest_configure(config):
    """Beside other tests a process has one thread, as a run's jobs have: threads of two would wait for each other."""
    if hasattr(config, "workerinput"):
        import torch  # here, lest every start of pytest waits for it

        torch.set_num_threads(1)


READ_SMOKE = ("tests/test_smoke.py", "tests/test_slurm.py")


def together(nodeid):
    """What one process tests, side by side with another: a file, but for those that read the smoke run, which is made
    once, and for notebooks, which read what the ones before them made."""
    file = nodeid.partition("::")[0]
    if file.endswith(".ipynb"):
        return "notebooks"
    return "smoke" if file in READ_SMOKE else file


def pytest_collection_modifyitems(items):
    """What takes longest comes first."""
    items.sort(key=lambda item: together(item.nodeid) not in ("smoke", "notebooks", "tests/test_end_to_end.py"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = together
    return scheduler


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The smoke run, made once for all that read it: its root and what it said."""
    root = tmp_path_factory.mktemp("smoke")
    status, output = call(root, "smoke")
    assert status == 0, output
    return root, output


@pytest.fixture(scope="module")  # no longer: while it is there, no other test could run a loop of asyncio
def browser():
    """Debian's Chromium, driven by Playwright."""
    reason = "browser tests need playwright (pip install playwright; no browser of its own)"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("browser tests need a chromium on the PATH, such as Debian's package of that name")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a page from the disk at a width; that it complains of anything or asks for anything fails the test."""
    wrong, contexts = [], []

    def visit(path, width=1280, fragment=""):
        contexts.append(browser.new_context(viewport={"width": width, "height": 844}))
        page = contexts[-1].new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        asked = (path.as_uri(), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(asked) else wrong.append(request.url))
        page.goto(path.as_uri() + fragment)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def faults():
    """The serious faults that axe finds in a page: the rules broken, each with the first place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

    def faults(page):
        found = axe.Axe().run(page).response["violations"]
        return [(own["id"], own["nodes"][0]["html"]) for own in found if own["impact"] in ("serious", "critical")]

    return faults
