"""Fixtures of ADEPT's tests."""

from contextlib import chdir

import matplotlib as mpl
import pytest

from adaptbench.graph import plan_files, unfolding
from adaptbench.methods.tuners import adept_units
from adaptbench.stages import job
from tests.support.adept_cases import _batches, _lineage, _preset, variants_of


@pytest.fixture
def probed(monkeypatch):
    """The probe corpus is the rows above; returns the number of batches of every measurement: 1 is a look whether there
    is any importance yet, 3 are the whole.
    """
    measured = []
    plain = adept_units.unit_importance
    monkeypatch.setattr(adept_units, "probe_batches", lambda config, context: _batches())
    monkeypatch.setattr(
        adept_units, "unit_importance", lambda *given: (measured.append(len(given[1])), plain(*given))[1]
    )
    return measured


@pytest.fixture(scope="module")
def made(tmp_path_factory, model_folder):
    """Makes all stages of an architecture's variants; returns the folder, the graph and each run's stages."""
    root = tmp_path_factory.mktemp("adept")
    done = {}

    def make(architecture):
        if architecture not in done:
            unfolded = unfolding.unfold(_preset(model_folder(architecture), variants_of(architecture)))
            found = {}
            with chdir(root):
                plans = plan_files.write(unfolded)
                for evaluated in unfolded.evaluations:
                    for node in unfolded.ancestors(evaluated.model):
                        if not unfolded.directory(node).exists():
                            job.run(plans / f"{node}.json", unfolded.directory(node))
                    if evaluated.run != "base":
                        prepared, trained = _lineage(unfolded, evaluated.run)
                        nodes = {name: node.id for name, node in prepared.items()} | {"tune": trained.id}
                        found[evaluated.run] = {n: root / unfolded.directory(node) for n, node in nodes.items()}
            done[architecture] = (root, unfolded, found)
        return done[architecture]

    return make


@pytest.fixture
def drawing():
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    yield plt
    plt.close("all")
