"""The look for known holes in the pinned packages: found ones fail, and a look that saw nothing is not taken for a
clean one.

Run: pytest tests/project/test_audit.py
"""

import json
import subprocess
import sys

import pytest

from tests.support.project import PROJECT


@pytest.mark.parametrize(
    ("written", "status", "said"),
    [
        ([("a", [])], 0, "audit: 1 of 1 packages looked up, no known holes"),
        ([("a", ["CVE-1"]), ("b", [])], 1, "audit: a 1.0: CVE-1 (mended in 2.0)"),
        ([("a", None), ("b", None)], 0, "audit: NOT RUN: none of 2 packages could be looked up"),
        ([("a", []), ("b", None)], 0, "audit: NOT LOOKED UP: b"),
        (None, 0, "audit: NOT RUN: no network"),
    ],
)
def test_an_audit_that_could_not_look_says_so(tmp_path, written, status, said):
    """pip-audit itself says "no known vulnerabilities" where it could ask about no package."""
    report = {"dependencies": []}
    for name, holes in written or []:
        found = {"skip_reason": "not found"} if holes is None else {"vulns": [{"id": hole,
            "fix_versions": ["2.0"]} for hole in holes]}  # fmt: skip
        report["dependencies"].append({"name": name, "version": "1.0"} | found)
    tool = tmp_path / "pip-audit"
    tool.write_text(
        f"#!{sys.executable}\nimport sys\nif {written is None}: sys.exit('no network')\n"
        f"open(sys.argv[sys.argv.index('-o') + 1], 'w').write({json.dumps(report)!r})\nsys.exit({int(status)})\n"
    )
    tool.chmod(0o755)
    command = [sys.executable, PROJECT / ".ci/audit.py", tool, PROJECT / "constraints.txt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said in done.stdout
    assert done.returncode == status


def test_without_pip_audit_it_says_so(tmp_path):
    command = [sys.executable, PROJECT / ".ci/audit.py", tmp_path / "none", PROJECT / "constraints.txt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("audit: NOT RUN: ")
