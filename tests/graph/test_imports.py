"""What a job reaches from its start, on code of a few lines: names as Python resolves them.

Run: pytest tests/graph/test_imports.py
"""

from pathlib import Path

import pytest

from adaptbench.errors import AdaptbenchError
from adaptbench.graph.imports import Module
from adaptbench.graph.sources import Code

OTHERS = {"far": "def run():\n    return 1\n\n\nclass Thing:\n    pass\n", "near": "def run():\n    return 2\n"}


def modules(root: Path, begin: str, /, **files: str) -> set[str]:
    """The modules that `begin` reaches, of a package with these files, `far` and `near`."""
    for name, text in (OTHERS | files).items():
        path = root / "adaptbench" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {name.removeprefix("adaptbench.") for name in Code(root).modules([f"adaptbench.{begin}"])}


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("from adaptbench import far, near\n\n\ndef go():\n    return far.run()\n", {"far"}),
        ("from adaptbench.far import run as fast\nfrom adaptbench.near import run\n\n\ndef go():\n    fast()\n",
         {"far"}),
        ("import adaptbench.far\n\n\ndef go():\n    return adaptbench.far.run()\n", {"far"}),
        ("import adaptbench.far as f\n\n\ndef go():\n    return [f.run() for near in ()]\n", {"far"}),
        ("from . import far, near\n\n\ndef go():\n    return near.run()\n", {"near"}),
        ("def go():\n    from adaptbench import far as near\n\n    return near.run()\n", {"far"}),
        ("def go():\n    from adaptbench.far import Thing\n", {"far"}),
        ("def go():\n    import adaptbench.far\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go(far):\n    return far.run()\n", set()),
        ("from adaptbench import far\n\n\ndef go():\n    far = 1\n    return far\n", set()),
        ("from adaptbench import far\n\n\ndef go():\n    global far\n    far.run()\n    far = 1\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    return [far for far in ()]\n", set()),
        ("from adaptbench import far\n\n\ndef go():\n    return [far for far in far.run()]\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    x = [far for far in ()]\n    return far.run()\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    def inside():\n        return far.run()\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    def inside(far):\n        return far.run()\n", set()),
        ("from adaptbench import far\n\n\ndef go():\n    return lambda far: far.run()\n", set()),
        ("from adaptbench import far\n\n\ndef go(run=far.run):\n    pass\n", {"far"}),
        ("from adaptbench import far\n\n\n@far.run\ndef go():\n    pass\n", {"far"}),
        ("from adaptbench.far import Thing\n\n\ndef go(one: Thing) -> Thing:\n    two: Thing = one\n", set()),
        ("from adaptbench.far import Thing\n\n\nclass go(Thing):\n    pass\n", {"far"}),
        ("from adaptbench.far import Thing\n\n\nclass go:\n    field: Thing\n", {"far"}),
        ("from adaptbench import far\n\n\nclass go:\n    def method(self):\n        return far.run()\n", {"far"}),
        ("from adaptbench import far\n\n\nclass go:\n    far = 1\n\n    def method(self):\n        return far.run()\n",
         {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    return handed(far)\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    return helper()\n\n\ndef helper():\n    return far.run()\n",
         {"far"}),
        ("from adaptbench import far\n\nTABLE = {'a': far.run}\n\n\ndef go():\n    return TABLE['a']\n", {"far"}),
        ("from adaptbench import far\n\nA, B = far.run, 1\n\n\ndef go():\n    return B\n", set()),
        ("from adaptbench import far\n\nA, B = far.run()\n\n\ndef go():\n    return B\n", {"far"}),
        ("from adaptbench import far\n\nA = {}\nA['x'] = far.run\n\n\ndef go():\n    return 1\n", {"far"}),
        ("from adaptbench import far\n\nfar.run()\n\n\ndef go():\n    return 1\n", {"far"}),
        ("try:\n    from adaptbench import far\nexcept ImportError:\n    far = None\n\n\ndef go():\n    return "
         "far.run()\n", {"far"}),
        ("from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from adaptbench import far\n\n\ndef go():\n   "
         " return 1\n", set()),
        ("import typing\n\n\ndef go():\n    if typing.TYPE_CHECKING:\n        from adaptbench import far\n", set()),
        ("from adaptbench import far\n\n\nasync def go():\n    async for one in far.run():\n        pass\n", {"far"}),
        ("from adaptbench import far\n\n\ndef go(x):\n    match x:\n        case far.Thing():\n            return 1\n",
         {"far"}),
        ("from adaptbench import far\n\n\ndef go():\n    return f'{far.run()}'\n", {"far"}),
        ("import json as far\n\n\ndef go():\n    return far.run()\n", set()),
        ("from adaptbench.far import *\n\n\ndef go():\n    return run()\n", {"far"}),
        ("try:\n    from .far import *\nexcept ImportError:\n    pass\n\n\ndef go():\n    return run()\n", {"far"}),
        ("from adaptbench import far, near\nKEPT = []\n\n\n@KEPT.append\ndef one():\n    far.run()\n\n\ndef "
         "go():\n    KEPT[0]()\n", {"far"}),
        ("import functools\nfrom adaptbench import far\n\n\n@functools.cache\ndef one():\n    far.run()\n\n\ndef "
         "go():\n    pass\n", set()),
    ],
)  # fmt: skip
def test_what_a_function_reaches(tmp_path, text, reached):
    assert modules(tmp_path, "start.go", start=text) == {"start"} | reached


def test_a_name_is_followed_through_a_module_that_hands_it_on(tmp_path):
    found = modules(tmp_path, "start.go", start="from adaptbench.hand import run\n\n\ndef go():\n    run()\n",
        hand="from adaptbench.far import run\nfrom adaptbench.near import run as other\n")  # fmt: skip
    assert found == {"start", "hand", "far"}


def test_packages_around_a_module_count_with_what_they_do_when_imported(tmp_path):
    package = "from adaptbench import far, near\n\nfar.run()\n"
    files = {"inner/__init__": package, "inner/start": "def go():\n    return 1\n"}
    found = modules(tmp_path, "inner.start.go", **files)
    assert found == {"inner", "inner.start", "far"}


def test_of_a_table_only_the_chosen_entry_counts_whoever_mentions_it(tmp_path):
    text = (
        "from adaptbench import far, near\n\nKINDS = {'a': far.run, 'b': near.run}\n\n\ndef make(kind):\n    "
        "return KINDS[kind]()\n\n\nOWN = {'a': make}\n"
    )
    assert modules(tmp_path, "start.KINDS[a]", start=text) == {"start", "far"}
    assert modules(tmp_path, "start.OWN[a]", start=text) == {"start", "far", "near"}
    both = Code(tmp_path).modules(["adaptbench.start.OWN[a]", "adaptbench.start.KINDS[b]"])
    assert both == ["adaptbench.near", "adaptbench.start"]
    numbers = "from adaptbench import far, near\n\nKINDS = {1: far.run, **near.run()}\n"
    assert modules(tmp_path, "numbers.KINDS[a]", numbers=numbers) == {"numbers", "far", "near"}
    named = "from adaptbench import start\n\nKINDS = start.KINDS\n"
    assert modules(tmp_path, "named.KINDS[a]", start=text, named=named) == {"named", "start", "far", "near"}


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        ("chosen.build()", {"far"}),
        ("getattr(chosen, 'build')", {"far"}),
        ("hasattr(chosen, 'build')", {"far"}),
        ("chosen.draw()", {"near"}),
        ("chosen.again()", {"far", "near"}),
        ("chosen.load()", {"near"}),
        ("chosen.Thing()", {"far"}),
        ("'build'", set()),
    ],
)
def test_of_a_module_that_is_chosen_counts_what_is_asked_for(tmp_path, asked, reached):
    method = (
        "from adaptbench import far, near\nfrom adaptbench.far import Thing\nfrom .near import run as "
        "load\n\nbuild, draw = far.run, near.run\n\n\ndef again(one):\n    one.build()\n    return one.draw\n"
    )
    modules(tmp_path, "method", method=method, start=f"def go(chosen):\n    return {asked}\n")
    found = Code(tmp_path).modules(["adaptbench.start.go", "adaptbench.method"])
    assert {one.removeprefix("adaptbench.") for one in found} == {"start", "method"} | reached


def test_code_that_stands_beside_the_package_is_found_as_in_a_checkout(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/fast.py").write_text("def run():\n    return 1\n")
    text = "def go():\n    from adaptbench.kernels.fast import run\n"
    assert modules(tmp_path, "start.go", start=text) == {"start", "kernels.fast"}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("TABLE = 'table.json'\n\n\ndef go():\n    return TABLE\n", True),
        ("def go():\n    return open('table.json')\n", True),
        ("class go:\n    def read(self, name='table.json'):\n        return name\n", True),
        ("TABLE = 'table.json'\n\n\ndef go():\n    return 1\n", False),
        ("def go():\n    return 'no such table.json'\n", False),
        ("def go(name):\n    return f'{name}.json'\n", True),
        ("def go(folder):\n    return folder.glob('*.json')\n", True),
        ("def go(folder):\n    return folder.glob('*.csv')\n", False),
    ],
)
def test_a_file_beside_a_module_counts_where_its_name_is_used(tmp_path, text, counts):
    modules(tmp_path, "start.go", start=text)
    assert (len(digests_with(tmp_path, "table.json")) == 2) == counts


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("words/table.json", "here / 'words' / 'table.json'", True),
        ("words/table.json", "here / 'words/table.json'", True),
        ("words/table.json", "here / 'other.json'", False),
        ("table.json.gz", "here / 'table.json.gz'", True),
        ("a.b.json", "here / 'a.b.json'", True),
        ("words/table.json", "here.suffix == '.json'", False),
    ],
)
def test_a_file_counts_by_its_name_wherever_it_is_below_a_module(tmp_path, file, text, counts):
    modules(tmp_path, "start.go", start=f"def go(here):\n    return {text}\n")
    assert (len(digests_with(tmp_path, file)) == 2) == counts


def digests_with(root: Path, name: str) -> set[str]:
    """The digests of `start.go` beside two files of that name."""
    file = root / "adaptbench" / name
    file.parent.mkdir(exist_ok=True)
    digests = set()
    for content in ("1", "2"):
        file.write_text(content)
        digests.add(Code(root).digest(["adaptbench.start.go"]))
    return digests


def digest(tmp_path: Path, text: str) -> str:
    (tmp_path / "one.py").write_text(text)
    return Module("one", tmp_path / "one.py").digest


CODE = 'def one(x):\n    """Do."""\n    return [x, "y"]\n\n\nA = 1\n"""What A is."""\n'


@pytest.mark.parametrize(
    "text",
    [
        CODE.replace("Do.", "Do it."),
        CODE.replace('    """Do."""\n', ""),
        CODE.replace("What A is.", "Another."),
        f'"""A docstring."""\n\n# A remark.\n{CODE}',
        CODE.replace('[x, "y"]', "[\n        x,\n        'y',\n    ]"),
        CODE.replace("A = 1", "A = (1)  # one"),
        CODE.replace("\n", "\r\n"),
        f"\ufeff{CODE}",
    ],
)
def test_what_does_not_run_changes_no_digest(tmp_path, text):
    assert digest(tmp_path, text) == digest(tmp_path, CODE)


@pytest.mark.parametrize(
    "text",
    [
        CODE.replace("A = 1", "A = 2"),
        CODE.replace("A = 1", "A = 1.0"),
        CODE.replace("A = 1", "A = True"),
        CODE.replace("A = 1", "A: int = 1"),
        CODE.replace("[x,", "[*x,"),
        CODE.replace("(x)", "(x=None)"),
        CODE.replace("(x)", "(*, x)"),
        CODE.replace('"y"', 'b"y"'),
        CODE.replace("def one", "async def one"),
        CODE.replace("def one", "def two"),
        CODE.replace("return", "yield"),
        f"{CODE}B = 1\n",
        "A = 1\n" + CODE.replace("A = 1\n", ""),
    ],
)
def test_what_runs_changes_the_digest(tmp_path, text):
    assert digest(tmp_path, text) != digest(tmp_path, CODE)


@pytest.mark.parametrize("text", ["def one(:\n", "A = '\n", "A = 1\0\n"])
def test_a_file_that_is_no_python_is_one_line(tmp_path, text):
    with pytest.raises(AdaptbenchError, match=r"one\.py: SyntaxError: |one\.py: ValueError: ") as error:
        digest(tmp_path, text)
    assert "\n" not in str(error.value)
