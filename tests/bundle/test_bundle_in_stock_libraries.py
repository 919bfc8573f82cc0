"""The bundle in stock libraries, in a process that can import neither MedDistill nor torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from meddistill.data.samples import Samples
from meddistill.imaging import decode, normalize_text, rasterize
from meddistill.students.dual_encoder import DualEncoder

PROGRAM = """
import json, sys
for name in ("meddistill", "torch", "open_clip", "timm", "transformers"):
    sys.modules[name] = None
import numpy as np, onnxruntime
from tokenizers import Tokenizer
folder, work = sys.argv[1], sys.argv[2]
spec = json.load(open(folder + "/preprocessing.json"))["input"]
rasters = np.load(work + "/rasters.npy").astype(np.float32)
pixels = (rasters / 255 - np.float32(spec["mean"])) / np.float32(spec["std"])
image = onnxruntime.InferenceSession(folder + "/onnx/image.onnx", providers=["CPUExecutionProvider"])
text = onnxruntime.InferenceSession(folder + "/onnx/text.onnx", providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
ids = np.array([each.ids for each in tokenizer.encode_batch(json.load(open(work + "/texts.json")))], np.int64)
np.save(work + "/image.npy", image.run(["image_embeds"], {"pixels": pixels.transpose(0, 3, 1, 2)})[0])
np.save(work + "/text.npy", text.run(["text_embeds"], {"tokens": ids})[0])
json.dump({
    "meta": image.get_modelmeta().custom_metadata_map,
    "shapes": [each.shape for each in (*image.get_inputs(), *image.get_outputs(), *text.get_inputs())],
}, open(work + "/told.json", "w"))
"""


def test_stock_onnxruntime_gives_the_students_embeddings(
    bundle: Path, student: DualEncoder, samples: Samples, tmp_path: Path
) -> None:
    rasters = np.stack([rasterize(decode(ref), student.input.geometry) for ref in samples.refs[:5]])
    captions = ["CT of the chest", "It’s &lt; 5 mm", "word " * 99]
    np.save(tmp_path / "rasters.npy", rasters)
    (tmp_path / "texts.json").write_text(json.dumps([normalize_text(caption) for caption in captions]))
    subprocess.run([sys.executable, "-c", PROGRAM, str(bundle), str(tmp_path)], check=True)
    student.eval()
    with torch.no_grad():
        expected = {
            "image": student.embed_images(torch.from_numpy(rasters)),
            "text": student.embed_tokens(student.tokenize(captions)),
        }
    for name, embeddings in expected.items():
        found = torch.from_numpy(np.load(tmp_path / f"{name}.npy"))
        torch.testing.assert_close(
            found, torch.nn.functional.normalize(embeddings, dim=-1), rtol=0, atol=1e-5
        )
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["shapes"] == [["batch", 3, 64, 64], ["batch", 128], ["batch", 77]]
    assert json.loads(told["meta"]["preprocessing"])["input"]["height"] == 64
    assert json.loads(told["meta"]["licence"])["commercial"] is False
    assert float(told["meta"]["logit_scale"]) == float(student.logit_scale.detach())
