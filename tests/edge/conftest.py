import pytest

from tests.edge import exports, workers


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """Path of a manifest that no test may change."""
    return exports.small(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def worker(export):
    with workers.running(export) as result:
        yield result
