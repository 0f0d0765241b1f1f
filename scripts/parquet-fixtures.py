"""Writes the Parquet files that packages/quant-core/src/data/parquet.test.ts reads (pyarrow 26, pandas 3, Pillow).

    python scripts/parquet-fixtures.py packages/quant-core/src/data/testing/parquet
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

out = Path(sys.argv[1])
rows = 20
numbers = np.arange(rows)


def png(value, side):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


# Columns of several types with a text label, the index of pandas, and one file for each codec.
frame = pd.DataFrame({"a": numbers / 4, "b": numbers.astype("int32"), "c": numbers % 2 == 0, "species": ["dog", "ant"] * (rows // 2)})
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    frame.iloc[::-1].set_axis(list(numbers[::-1])).to_parquet(out / f"columns-{codec}.parquet", compression=codec, row_group_size=7)

# Fixed-size lists of bytes [2, 2] with whole numbers for labels.
lists = pa.array([[[i, 1], [2, 3]] for i in range(rows)], pa.list_(pa.list_(pa.uint8(), 2), 2))
pq.write_table(pa.table({"pixels": lists, "label": pa.array(numbers % 3)}), out / "lists.parquet", row_group_size=8)

# Images as Hugging Face datasets writes them: struct {bytes, path}, ClassLabel names in the metadata.
image = pa.array([{"bytes": png(i, 1 + i % 2), "path": f"{i}.png"} for i in range(6)], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
features = {"image": {"_type": "Image"}, "label": {"names": ["zebra", "yak", "ant"], "_type": "ClassLabel"}}
table = pa.table({"image": image, "label": pa.array([0, 1, 0, 1, 0, 1])})
pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), out / "images.parquet", row_group_size=4)

# What must be refused: a missing value, a label that is null, only paths of images, lists of different length.
pq.write_table(pa.table({"a": pa.array([1.0, None]), "label": [0, 1]}), out / "missing.parquet")
pq.write_table(pa.table({"a": [1.0, 2.0], "label": pa.array([0, None])}), out / "unlabelled-row.parquet")
paths = pa.array([{"bytes": None, "path": "cats/1.png"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
pq.write_table(pa.table({"image": paths, "label": [0]}), out / "paths.parquet")
pq.write_table(pa.table({"a": [[1.0, 2.0], [1.0]], "label": [0, 1]}), out / "ragged.parquet")
