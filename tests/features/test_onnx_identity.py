"""What identifies an ONNX network: the file and the external data that it names."""

import hashlib

from frechet.features.whole_models import compute_onnx_sha256


def test_external_data_is_part_of_the_identity(tmp_path):
    model, data = tmp_path / "net.onnx", tmp_path / "weights" / "net.data"
    model.write_bytes(b"\x08\x0alocation\x12\x10weights/net.data\x00")
    (tmp_path / "notes.txt").write_text("not part of the network")
    data.parent.mkdir()
    digests = set()
    for content in (b"one", b"two"):
        data.write_bytes(content)
        digests.add(compute_onnx_sha256(model))
    assert len(digests) == 2
    (tmp_path / "notes.txt").write_text("changed")
    assert compute_onnx_sha256(model) in digests


def test_a_file_without_external_data_is_identified_by_its_bytes(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"network")
    (tmp_path / "other.onnx").write_bytes(b"other")
    assert compute_onnx_sha256(tmp_path / "net.onnx") == hashlib.sha256(b"network").hexdigest()
