"""The metric of each network of `npm run bench -- tasks` by other hands: check.py FOLDER NAME MODEL prints one line of JSON."""
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score, roc_auc_score

folder, name, model = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
onnx.checker.check_model(model, full_check=True)
options = ort.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
data = np.load(folder / f"{name}-eval.npz")
x, y = data["x"], data["y"]
outputs = [np.concatenate(parts) for parts in zip(*(session.run(None, {"x": x[i:i + 100]}) for i in range(0, len(x), 100)))]
z = outputs[0]
if name == "unet":
    keep = y != 255
    figures = {"mean_iou": jaccard_score(y[keep], z.argmax(1)[keep], average="macro"), "position_accuracy": (y == z.argmax(1))[keep].mean()}
elif name == "tagger":
    keep = y != -100
    figures = {"mean_iou": jaccard_score(y[keep], z.argmax(2)[keep], average="macro"), "position_accuracy": (y == z.argmax(2))[keep].mean()}
elif name == "multi":
    figures = {
        "auc": roc_auc_score(y, z, average="macro"),
        "average_precision": average_precision_score(y, z, average="macro"),
        "binary_accuracy": ((z > 0) == (y > 0)).mean(),
    }
else:
    figures = {"top1": accuracy_score(y, z.argmax(1))}
print(json.dumps({"interface": [[v.name, v.shape] for v in session.get_outputs()], **{key: float(value) for key, value in figures.items()}}))
