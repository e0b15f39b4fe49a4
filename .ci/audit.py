"""Look up known vulnerabilities of the pinned packages. Exit with 1 if there are any, with 0 if not.

If the index cannot be reached, it exits with 0 and says so.

pip-audit alone will not do: it calls it "no known vulnerabilities" when its index knows none of the packages.

    python .ci/audit.py <pip-audit> <requirements>
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(tool: str, requirements: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-o", report]
        command = [tool, "-r", requirements, *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            return not_run(str(error))
        if not report.exists():
            return not_run(done.stderr.strip().rpartition("\n")[2])
        packages = json.loads(report.read_text())["dependencies"]
    known = [package for package in packages if "vulns" in package]
    if not known:
        return not_run(f"none of {len(packages)} packages could be looked up")
    for package in packages:
        if "vulns" not in package:
            print(f"audit: NOT LOOKED UP: {package['name']}")
    holes = [(package, hole) for package in known for hole in package["vulns"]]
    for package, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "no version"
        print(f"audit: {package['name']} {package['version']}: {hole['id']} (mended in {mended})")
    print(f"audit: {len(known)} of {len(packages)} packages looked up, {len(holes) or 'no'} known holes")
    return int(bool(holes))


def not_run(reason: str) -> int:
    print(f"audit: NOT RUN: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
