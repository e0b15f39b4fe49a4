"""Names of packages: ours are under adaptbench, the short ones belong to others.

Run: python -m pytest tests/project/test_package_names.py
"""

import subprocess
import sys
import zipfile

import pytest

from tests.support.project import PROJECT

STAND_IN = "MARK = 'the other package of this name'\n__version__ = '0.18.2'\n"
SHORT = ("kernels", "methods", "benchmarks")


@pytest.mark.parametrize("name", SHORT)
def test_a_package_of_another_with_a_short_name_is_not_shadowed(name, tmp_path):
    """transformers imports the hub's package `kernels`; in the project's own folder, too, that must be the installed
    one.
    """
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(STAND_IN)
    code = (
        f"import {name}; from adaptbench import registry; registry.tracks(); import adaptbench.{name}; "
        f"print({name}.MARK)"
    )
    for path in (f"{PROJECT}:{tmp_path}", f"{tmp_path}:{PROJECT}"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, env={"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.stdout == "the other package of this name\n", done.stderr


def test_a_wheel_claims_no_short_name_and_holds_every_method(tmp_path):
    build = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        opened.extractall(tmp_path / "installed")
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"adaptbench"}
    ours = {f"adaptbench/{path.relative_to(PROJECT)}" for folder in SHORT for path in (PROJECT / folder).rglob("*.py")}
    assert ours <= set(names)
    code = "from adaptbench import registry; print(registry.tracks(), *registry.discover('methods.tuners'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert "domain" in done.stdout, done.stderr
    assert "lora" in done.stdout
