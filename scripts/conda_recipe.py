"""Write the conda-forge recipe of a release from its source distribution.

uv build && python scripts/conda_recipe.py dist/frechet-*.tar.gz > recipe.yaml
"""

from __future__ import annotations

import hashlib
import re
import sys
import tarfile
from pathlib import Path

TEMPLATE = """schema_version: 1
context:
  version: "{version}"
package:
  name: frechet
  version: ${{{{ version }}}}
source:
  url: https://pypi.org/packages/source/f/frechet/frechet-${{{{ version }}}}.tar.gz
  sha256: {sha256}
build:
  number: 0
  noarch: python
  script: ${{{{ PYTHON }}}} -m pip install . -vv --no-deps --no-build-isolation
  python:
    entry_points:
      - frechet = frechet.__main__:main
requirements:
  host:
    - python ${{{{ python_min }}}}.*
    - hatchling
    - pip
  run:
    - python >=${{{{ python_min }}}}
{requirements}
tests:
  - python:
      imports: [frechet]
      pip_check: true
  - script: [frechet --help]
about:
  homepage: https://github.com/frechet-metrics/frechet
  license: Apache-2.0
  license_file: LICENSE
  summary: FID and related metrics of generated images
"""


def render_recipe(archive: Path) -> str:
    """Return the recipe of a source distribution; the requirements are those of its metadata."""
    with tarfile.open(archive) as tar:
        member = next(name for name in tar.getnames() if name.count("/") == 1 and name.endswith("PKG-INFO"))
        file = tar.extractfile(member)
        assert file is not None
        metadata = file.read().decode()
    version = re.search(r"^Version: (.+)$", metadata, re.MULTILINE)
    assert version is not None
    found = re.findall(r"^Requires-Dist: ([A-Za-z0-9-]+)([^;\n]*)$", metadata, re.MULTILINE)
    return TEMPLATE.format(
        version=version[1],
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        requirements="\n".join(f"    - {name} {bounds}".rstrip() for name, bounds in found),
    )


if __name__ == "__main__":
    print(render_recipe(Path(sys.argv[1])), end="")
