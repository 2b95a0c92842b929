"""Write torchvision.npz: what torchvision's Inception v3 gives, as FastFID and as plain users run it. See README.md beside this file.

python make_torchvision.py        with torch, torchvision, scikit-image, scikit-learn
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.models import inception_v3

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))
from golden_images import make_tiles, photographs  # noqa: E402
from seeded_weights import make_torchvision_state_dict  # noqa: E402


def network(transform_input):
    net = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=transform_input).eval()
    state = {key: torch.from_numpy(value) for key, value in make_torchvision_state_dict(2015).items()}
    missing = net.load_state_dict(state, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys), missing
    assert not missing.unexpected_keys
    return net


def maps(net, images):
    """[feature maps of Mixed_7c], class scores: of (n, 3, h, w) images in [0, 1], each by itself."""
    pooled, scores, caught = [], [], []
    hook = net.Mixed_7c.register_forward_hook(lambda _module, _inputs, out: caught.append(out))
    for image in images:
        x = F.interpolate(image[None], (299, 299), mode="bilinear", align_corners=False)
        scores.append(net(2 * x - 1))
        pooled.append(caught.pop().mean((2, 3)))
    hook.remove()
    return torch.cat(pooled).numpy(), torch.cat(scores).numpy()


def tensors(arrays):
    return [torch.from_numpy(np.array(array)).permute(2, 0, 1) / 255 for array in arrays]


with torch.no_grad():
    images = tensors(np.asarray(image.convert("RGB")) for image in photographs()[::3])
    plain, fastfid = network(transform_input=False), network(transform_input=True)  # as pretrained=True sets it
    golden = {}
    golden["plain_2048"], golden["plain_logits"] = maps(plain, images)
    golden["fastfid_2048"], _ = maps(fastfid, images)
    for name, source, count in (("a", "skimage/data/astronaut.png", 8), ("b", "sklearn/datasets/images/china.jpg", 12)):
        golden[f"fastfid_tiles_{name}"], _ = maps(fastfid, tensors(make_tiles(source, count)))
np.savez_compressed(HERE / "torchvision.npz", **golden)
