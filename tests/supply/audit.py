"""pip-audit over a folder of packages, for `make audit`: the holes that are known, and what was not looked up.

pip-audit's own status does not tell holes from a database that does not answer, and is 0 where that knows no package.
"""

import json
import subprocess
import sys
from typing import Any


def main() -> None:
    """Audit the folder that is named; status 0 only where something was looked up and no hole is known."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "--path",
        sys.argv[1],
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        packages = []
    skipped = [package for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        reason = (skipped[0]["skip_reason"] if skipped else done.stderr.strip() or "it said nothing").splitlines()[-1]
        print(f"error: nothing was audited, the database of known holes gave no answer: {reason}", file=sys.stderr)
        sys.exit(1)
    holes = [(package, hole) for package in packages for hole in package.get("vulns", [])]
    for package, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    print(f"{len(packages) - len(skipped)} packages were looked up, {len(holes)} holes are known")
    if skipped:
        print(f"not looked up: {', '.join(package['name'] for package in skipped)}")
    sys.exit(1 if holes else 0)


if __name__ == "__main__":
    main()
