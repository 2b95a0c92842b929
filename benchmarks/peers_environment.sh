#!/usr/bin/env bash
# The environment of the tools that frechet is measured against, from nothing, with the versions of the results.
#
#     benchmarks/peers_environment.sh [FOLDER]      (./peers by default; PYTHON names the interpreter to build it with)
#
# SciPy stays before 1.18, which removed an argument that pytorch-fid uses. The last lines are what the torch and jax
# backends of frechet need, for torch_backend.py and jax_backend.py, and what feed.py needs of frechet's extras.
set -euo pipefail
folder=${1:-peers}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch==2.14.1 torchvision==0.29.1 scipy==1.17.1
"$folder/bin/python" -m pip install --quiet \
  pytorch-fid==0.3.0 torch-fidelity==0.4.0 torchmetrics==1.9.0 clean-fid==0.1.35 prdc==0.2 scipy==1.17.1
"$folder/bin/python" -m pip install --quiet array-api-compat click filelock "numpy>=2.1" "pillow>=10.3" platformdirs rich
"$folder/bin/python" -m pip install --quiet jax==0.10.2
"$folder/bin/python" -m pip install --quiet imagecodecs simplejpeg scikit-image scikit-learn
echo "$folder/bin/python"
