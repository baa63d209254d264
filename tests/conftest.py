import pytest
from runs import call


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The smoke run, made once for all that read it: its root and what it said."""
    root = tmp_path_factory.mktemp("smoke")
    status, output = call(root, "smoke")
    assert status == 0, output
    return root, output
