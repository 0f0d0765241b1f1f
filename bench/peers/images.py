"""Image folders brought to one size by Pillow: every image of a zip decoded, convert("RGB"), resize with Image.BILINEAR. Prints its figures as JSON.

    python images.py ZIP HEIGHT WIDTH PROCESSES
"""
import io
import json
import multiprocessing
import os
import resource
import sys
import time
import zipfile

import PIL
from PIL import Image

path, height, width, processes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def lay_out(share):
    with zipfile.ZipFile(path) as archive, open(os.devnull, "wb") as out:
        for name in archive.namelist()[share::processes]:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            out.write(image.resize((width, height), Image.BILINEAR).tobytes())


def cpu_seconds():
    of = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in of)


with zipfile.ZipFile(path) as archive:
    samples = len(archive.namelist())
cpu, started = cpu_seconds(), time.perf_counter()
if processes == 1:
    lay_out(0)
else:
    with multiprocessing.Pool(processes) as pool:
        pool.map(lay_out, range(processes), chunksize=1)
seconds = time.perf_counter() - started
print(json.dumps({"samples": samples, "seconds": seconds, "cpuSeconds": cpu_seconds() - cpu, "version": f"Pillow {PIL.__version__}"}))
