"""pip-audit over a folder of installed packages, for `make audit`. Where its database does not answer, one line says so.

pip-audit has status 1 both for holes that are known and for a database that does not answer: its last line tells which.
"""

import subprocess
import sys


def main() -> None:
    """Audit the folder that is named; status 0 only where everything was looked up and nothing was found."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--path", sys.argv[1]]
    done = subprocess.run(command, capture_output=True, text=True)
    if "known vulnerabilit" in done.stderr:  # "No known vulnerabilities found" or "Found 2 known vulnerabilities in ..."
        print(f"{done.stderr}{done.stdout}", end="")
        sys.exit(done.returncode)
    reason = (done.stderr.strip() or "no reason was given").splitlines()[-1]
    print(f"error: nothing was audited, the database of known holes gave no answer: {reason}", file=sys.stderr)
    sys.exit(done.returncode or 1)


if __name__ == "__main__":
    main()
