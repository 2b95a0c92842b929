"""Run the distance function of another tool, taken from a checkout of its source, on given features.

    PEERS_PYTHON benchmarks/formulas.py TOOL CHECKOUT FEATURES.npz

TOOL is adm, edm2, fastfid, jax-fid or jax-fid-parallel; FEATURES.npz has `generated` and `reference`, (n, d). The distances are
printed as JSON, by dtype. `agreement.py` runs this script with the interpreter of the other tools, which has the SciPy version
that these tools were written for. Only the named functions are taken from a file, so that neither TensorFlow nor CUDA is
needed; "cuda" is replaced by "cpu" in them, and `jax.numpy` by NumPy.
"""

import ast
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import scipy.linalg


class CudaToCpu(ast.NodeTransformer):
    """Replace the string "cuda" by "cpu"."""

    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant("cpu"), node) if node.value == "cuda" else node


def load_definitions(file, *names, **namespace):
    """Return a namespace with the named functions and classes of a file; `namespace` holds the globals they need."""
    wanted = [node for node in ast.parse(file.read_text()).body if getattr(node, "name", None) in names]
    if missing := set(names) - {node.name for node in wanted}:
        sys.exit(f"{file} has no {', '.join(sorted(missing))}; is it a checkout of that tool?")
    definitions = {"np": np, "jnp": np, "scipy": scipy, "linalg": scipy.linalg, "warnings": warnings, **namespace}
    tree = ast.fix_missing_locations(CudaToCpu().visit(ast.Module(wanted, type_ignores=[])))
    exec(compile(tree, str(file), "exec"), definitions)
    return definitions


def compute_moments(features):
    """Compute mean and covariance as all of these tools do: NumPy, float64."""
    features = features.astype(np.float64)
    return features.mean(0), np.cov(features, rowvar=False)


def adm(checkout, generated, reference):
    statistics = load_definitions(checkout / "evaluations/evaluator.py", "FIDStatistics")["FIDStatistics"]
    return statistics(*compute_moments(generated)).frechet_distance(statistics(*compute_moments(reference)))


def edm2(checkout, generated, reference):
    definitions = load_definitions(checkout / "calculate_metrics.py", "calculate_metrics_from_stats")
    features = [
        {"fid": dict(zip(("mu", "sigma"), compute_moments(rows), strict=True))} for rows in (generated, reference)
    ]
    return definitions["calculate_metrics_from_stats"](*features, metrics=["fid"], verbose=False)["fid"]


def jax_fid(checkout, generated, reference):
    (mu1, sigma1), (mu2, sigma2) = compute_moments(generated), compute_moments(reference)
    distance = load_definitions(checkout / "jax_fid/fid.py", "compute_frechet_distance")["compute_frechet_distance"]
    return distance(mu1, mu2, sigma1, sigma2)


def jax_fid_parallel(checkout, generated, reference):
    distance = load_definitions(checkout / "fid.py", "fid_from_stats")["fid_from_stats"]
    return distance(*compute_moments(generated), *compute_moments(reference))


def fastfid(checkout, generated, reference):
    """Compute the distance of FastFID from features, with its network replaced by the identity."""
    import torch

    namespace = {"torch": torch, "inception_network": lambda features: features}
    trace = load_definitions(checkout / "fid/fast_sqrt.py", "trace_of_matrix_sqrt", **namespace)
    names = ("calculate_activation_statistics", "fastfid", "calculate_frechet_distance_fast", "compute_trace")
    namespace["trace_of_matrix_sqrt"] = trace["trace_of_matrix_sqrt"]
    distance = load_definitions(checkout / "fid/fastfid.py", *names, **namespace)["fastfid"]
    torch.set_default_dtype(getattr(torch, str(generated.dtype)))
    with torch.no_grad():
        return distance(torch.from_numpy(generated), torch.from_numpy(reference), preprocess=False)


FORMULAS = {
    "adm": adm,
    "edm2": edm2,
    "fastfid": fastfid,
    "jax-fid": jax_fid,
    "jax-fid-parallel": jax_fid_parallel,
}


def main():
    tool, checkout, file = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    warnings.simplefilter("ignore")  # SciPy's, of an argument that later versions do not have
    with np.load(file) as arrays:
        features = arrays["generated"], arrays["reference"]
    dtypes = ("float32", "float64") if tool == "fastfid" else ("float64",)
    distances = {dtype: float(FORMULAS[tool](checkout, *(rows.astype(dtype) for rows in features))) for dtype in dtypes}
    print(json.dumps(distances))


if __name__ == "__main__":
    main()
