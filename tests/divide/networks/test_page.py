"""The code in docs/any_network.md runs, and the page names all config keys."""

import re
from pathlib import Path

import pytest

from dico_tf.divide.networks.fallback_rules import KEEPS, MAKES

PAGE = (Path(__file__).parents[3] / "docs" / "any_network.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_page_runs(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    output = capsys.readouterr().out
    assert re.search(r"print\(branches.plan\)  # (.+)", PAGE)[1] in output
    assert names["branch"].output_shape == (None, 100) and names["again"].changes == names["division"].changes
    assert names["division"].changes["conv and 2 more"] == [16, 8]
    assert list(names["division"].regularisation.values()) == [[0.2, 0.1]]


def test_the_page_names_every_key_of_a_width():
    assert set(re.findall(r"`(\w+)`", PAGE)) >= {*MAKES, *KEEPS}
