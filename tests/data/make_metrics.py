"""Write metrics.npz and metrics.json: features of real images, and what the metrics' own tools make of them.

    python make_metrics.py features TRAIN.zip TEST.zip      # in frechet's environment: metrics.npz
    python make_metrics.py values DGM_EVAL VENDI_SCORE CMMD MIND # in that of the peers: metrics.json

The zips hold CIFAR-10 images. The rest are checkouts of layer6ai-labs/dgm-eval (74c79f7), vertaix/Vendi-Score (c791c30),
sayakpaul/cmmd-pytorch (f7673a9) and toshas/torch-fidelity (5e211a9, whose MIND is not in 0.4.0 yet); torch-fidelity 0.4.0,
torchmetrics 1.9.0 and prdc 0.2 come from PyPI.
"""

import importlib.util
import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DIMS = 80  # of 1280: more than the 64 at which C_T takes principal components


def features(train, test):
    """400 training images, 300 held out, 300 generated: 240 held-out ones blurred, and 60 training images again."""
    from PIL import Image, ImageFilter

    import frechet

    def images(path, count, start=0):
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".png")))
            chosen = np.random.default_rng(7).permutation(len(names))[start : start + count]
            return [Image.open(BytesIO(archive.read(names[i]))).convert("RGB") for i in chosen]

    reference, held_out = images(train, 400), images(test, 300)
    blurred = [image.filter(ImageFilter.GaussianBlur(0.5)) for image in images(test, 240, 300)]
    sides = {"reference": reference, "held_out": held_out, "generated": blurred + reference[:60]}
    rows = {key: frechet.collect(side, extractor="efficientnet-lite0").rows[:, :DIMS] for key, side in sides.items()}
    np.savez_compressed(HERE / "metrics.npz", **{key: value.astype(np.float16) for key, value in rows.items()})


def values(dgm_eval, vendi_score, cmmd, mind):
    import torch
    from prdc import compute_prdc
    from torch_fidelity.defaults import DEFAULTS
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image.mifid import _compute_cosine_distance

    def module(path):
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        spec.loader.exec_module(loaded := importlib.util.module_from_spec(spec))
        return loaded

    with np.load(HERE / "metrics.npz") as archive:
        x, y, held_out = (archive[key].astype(np.float32) for key in ("generated", "reference", "held_out"))
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    metrics = Path(dgm_eval) / "dgm_eval" / "metrics"
    fls = module(metrics / "fls.py")
    torch.Tensor.cuda, ones = (lambda self: self), torch.ones  # it runs on CUDA alone
    fls.torch = type("torch", (), {**vars(torch), "ones": staticmethod(lambda *a, device=None, **k: ones(*a, **k))})
    ct = module(metrics / "ct.py")
    test = ct.mannwhitneyu  # it is given columns, whose U has one entry: NumPy no longer takes that for a number
    ct.mannwhitneyu = lambda a, b, alternative: test(a.ravel(), b.ravel(), alternative=alternative)
    found = {
        "is": isc_features_to_metric(tx, splits=10, shuffle=True, rng_seed=2020),
        "is_unshuffled": isc_features_to_metric(tx, splits=7, shuffle=False),
        "kid": kid_features_to_metric(tx, ty, kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False),
        "prc": prc_features_to_metric(tx, ty, prc_neighborhood=3, verbose=False),
        "prdc": compute_prdc(y, x, nearest_k=5),
        "realism": module(metrics / "prdc.py").compute_prdc(y, x, 5, realism=True)["realism"][:240].tolist(),
        "mifid_cosine": float(_compute_cosine_distance(tx, ty)),
        "mifid_cosine_torchmetrics": float(_compute_cosine_distance(ty, tx)),
        "cmmd": float(module(Path(cmmd) / "distance.py").mmd(x.astype(float), y.astype(float))),
        "vendi": float(module(Path(vendi_score) / "vendi_score" / "vendi.py").score_dual(x.astype(float))),
        "authpct": module(metrics / "authpct.py").compute_authpct(y, x),
        "ct": [float(ct.compute_CTscore(y, held_out, x)) for _ in range(5)],
        "fls": float(fls.compute_fls(y[:200], y[200:], held_out, x)),
    }
    DEFAULTS["mind_num_projections"] = 1000  # as that checkout has it
    compute_mind = module(Path(mind) / "torch_fidelity" / "metric_mind.py").mind_features_to_metric
    found["mind"] = compute_mind(tx, ty[:300], mind_num_projections=1000, rng_seed=2020, verbose=False, cuda=False)
    (HERE / "metrics.json").write_text(json.dumps(found, indent=1, default=float) + "\n")


if __name__ == "__main__":
    {"features": features, "values": values}[sys.argv[1]](*sys.argv[2:])
