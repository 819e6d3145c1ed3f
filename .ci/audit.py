"""Ask a vulnerability service about the locked dependencies; say it where none can be asked.

pip-audit asks the package index that it is set up with. An index that keeps no such list answers
that it knows none of the packages, and pip-audit then passes: here that does not count as passed.
"""  # noqa: INP001  a script, not a package

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TOOL = "pip-audit>=2.9,<3"
SECONDS = 240


def main() -> int:
    """Give 1 when a locked dependency has a known weakness, else 0."""
    found = audit()
    if found is None:
        print("==> NOT AUDITED: no vulnerability service can be reached from here")  # noqa: T201
        return 0
    asked = [each for each in found if "vulns" in each]
    weak = [each for each in asked if each["vulns"]]
    if not asked:
        print(f"==> NOT AUDITED: the index here knows of no weaknesses ({len(found)} packages)")  # noqa: T201
        return 0
    print(f"==> audited {len(asked)} of {len(found)} packages: {len(weak)} with known weaknesses")  # noqa: T201
    for each in weak:
        names = ", ".join(f"{v['id']} (mended in {v['fix_versions']})" for v in each["vulns"])
        print(f"    {each['name']} {each['version']}: {names}")  # noqa: T201
    return 1 if weak else 0


def audit() -> list[dict[str, Any]] | None:
    """Run pip-audit on the lock; None when it had no answer."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "tool", "run", "--quiet", "--from", TOOL, "pip-audit"]
    command += ["--requirement", "requirements.lock", "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, OSError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    sys.exit(main())
