"""Static quantization with onnxruntime.quantization: the peer that `npm run bench -- ptq` measures against.

Needs PyPI's onnxruntime and onnx. Prints one line of JSON.

    python3 ptq.py --model model.onnx --samples samples.npz --method minmax --batch 64 --output model.int8.onnx
"""

import argparse
import json
import logging
import platform
import time

import numpy as np
import onnxruntime
from memory import peak_mib
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

methods = {'minmax': CalibrationMethod.MinMax, 'entropy': CalibrationMethod.Entropy, 'percentile': CalibrationMethod.Percentile}


class Reader(CalibrationDataReader):
    def __init__(self, path, name, batch):
        x = np.load(path)['x']
        self.feeds = iter([{name: x[i : i + batch]} for i in range(0, len(x), batch)])

    def get_next(self):
        return next(self.feeds, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', required=True)
    parser.add_argument('--samples', required=True)
    parser.add_argument('--method', choices=list(methods), required=True)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--output', required=True)
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    started = time.perf_counter()
    quantize_static(
        options.model,
        options.output,
        Reader(options.samples, 'x', options.batch),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[options.method],
    )
    figures = {
        'seconds': time.perf_counter() - started,
        'peakMiB': peak_mib(),
        'version': f'onnxruntime {onnxruntime.__version__} of PyPI, Python {platform.python_version()}',
    }
    print(json.dumps(figures), flush=True)


if __name__ == '__main__':
    main()
