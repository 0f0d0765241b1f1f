"""What `npm run bench -- zoo` asks of Python: samples for a model, and what ONNX's checker, ONNX Runtime and `quantize_static` say of its int8 file.

Needs PyPI's onnxruntime and onnx. Prints one line of JSON.

    python3 peer.py data --model model.onnx --samples 48 --output calibration.npz --evaluation evaluation.npz
    python3 peer.py check --model model.onnx --int8 model.int8.onnx --calibration calibration.npz --evaluation evaluation.npz --folder scratch
"""

import argparse
import json
import logging
import math
import os
import sys

import numpy as np
import onnx
import onnxruntime as ort

integers = {'tensor(int64)': np.int64, 'tensor(int32)': np.int32, 'tensor(uint8)': np.uint8, 'tensor(int8)': np.int8}
floats = {'tensor(float)': np.float32, 'tensor(double)': np.float64, 'tensor(float16)': np.float16}
known = {'sr': 16000, 'sample_rate': 16000}


def session(model, threads=2, exact=True):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Without VNNI, sums of products of 8 bits saturate unless this is set.
    options.add_session_config_entry('session.x64quantprecision', '1' if exact else '0')
    return ort.InferenceSession(model, options, providers=['CPUExecutionProvider'])


def waves(random, shape):
    """A smooth field with some noise, within about -1..1: what images and signals look like after scaling."""
    axes = [np.linspace(0, 1, n, dtype=np.float32) for n in shape]
    grid = np.meshgrid(*axes, indexing='ij') if axes else []
    field = np.zeros(shape, np.float32)
    for _ in range(4):
        turns = random.uniform(-4, 4, len(shape))
        field += random.uniform(0.1, 0.5) * np.sin(2 * math.pi * (sum(t * g for t, g in zip(turns, grid)) + random.uniform()))
    return (field + 0.1 * random.standard_normal(shape)).astype(np.float32)


def sample(random, entry, shape, largest):
    if entry.type in integers:
        if entry.name in known:
            return np.full(shape, known[entry.name], integers[entry.type])
        if 'mask' in entry.name:
            return np.ones(shape, integers[entry.type])
        return random.integers(0, largest, shape).astype(integers[entry.type])
    if entry.type == 'tensor(bool)':
        return random.integers(0, 2, shape).astype(bool)
    if entry.type == 'tensor(string)':
        return np.full(shape, 'a', object)
    if entry.type not in floats:
        raise SystemExit(f'input {entry.name} is {entry.type}')
    return waves(random, shape).astype(floats[entry.type])


def shapes_for(inputs, size, wished):
    """The shape of one batch of each input. Open dimensions get `size`; one where they are the first, or named as the first of an input is."""
    batches = {e.shape[0] for e in inputs if e.shape and isinstance(e.shape[0], str)}
    shapes = []
    for entry in inputs:
        shape = entry.shape if isinstance(entry.shape, list) else []
        free = [d if isinstance(d, int) and d > 0 else (1 if at == 0 or d in batches else size) for at, d in enumerate(shape)]
        shapes.append(wished.get(entry.name, free))
    return shapes


def data(options):
    model = session(options.model)
    inputs = model.get_inputs()
    if options.real:
        return split(options, np.load(options.real))
    tried = 'nothing'
    for largest in (100, 2):
        for size in [options.size] if options.size else (64, 320, 512, 32, 20, 1):
            random = np.random.default_rng(7)
            shapes = shapes_for(inputs, size, json.loads(options.shapes))
            try:
                model.run(None, {e.name: sample(random, e, s, largest) for e, s in zip(inputs, shapes)})
            except Exception as error:  # noqa: BLE001 (any refusal of the runtime means: another size)
                tried = str(error)
                continue
            for path, seed in ((options.output, 1), (options.evaluation, 2)):
                random = np.random.default_rng(seed)
                count = options.samples if seed == 1 else max(options.samples // 2, 1)
                write(path, inputs, shapes, count, random, largest)
            return {'shapes': shapes}
    raise SystemExit(f'no size runs: {tried[:300]}')


def split(options, arrays):
    """Samples that lie beside the model: a third of them to evaluate with."""
    count = min(len(arrays[name]) for name in arrays.files)
    at = min(options.samples, count * 2 // 3)
    np.savez(options.output, **{name: arrays[name][:at] for name in arrays.files})
    np.savez(options.evaluation, **{name: arrays[name][at : at + max(at // 2, 1)] for name in arrays.files})
    return {}


def write(path, inputs, shapes, count, random, largest):
    arrays = {}
    for entry, shape in zip(inputs, shapes):
        batch = shape[0] if shape else 1
        rows = [sample(random, entry, shape, largest) for _ in range(max(count // batch, 1))]
        arrays[entry.name] = np.concatenate(rows) if shape else np.stack(rows)
    np.savez(path, **arrays)


def feeds(model, path):
    """One batch after another, as the model takes them: of its own size where that is fixed, else of one."""
    arrays = np.load(path)
    inputs = [e for e in model.get_inputs() if e.name in arrays.files]
    batch = next((e.shape[0] for e in inputs if e.shape and isinstance(e.shape[0], int)), 1)
    count = min(len(arrays[e.name]) for e in inputs)
    for at in range(0, count - batch + 1, batch):
        yield {e.name: arrays[e.name][at : at + batch] if e.shape else arrays[e.name][at] for e in inputs}


def outputs(path, samples):
    model = session(path)
    names = [e.name for e in model.get_outputs()]
    return names, [model.run(names, one) for one in feeds(model, samples)]


def sqnr(reference, other):
    """dB for each output of floats; whether they are the same for the rest."""
    result = {}
    names, wanted = reference
    for at, name in enumerate(names):
        signal = noise = 0.0
        same = True
        for a, b in zip(wanted, other[1]):
            if not isinstance(a[at], np.ndarray) or a[at].dtype.kind != 'f':
                same, signal = same and str(a[at]) == str(b[at]), None
            elif a[at].shape != b[at].shape:
                same, signal = False, None
            elif signal is not None:
                x, y = a[at].astype(np.float64), b[at].astype(np.float64)
                signal += float((x * x).sum())
                noise += float(((x - y) ** 2).sum())
        if signal is None:
            result[name] = 'same' if same else 'differs'
        else:
            result[name] = None if signal == 0 else (10 * math.log10(signal / noise) if noise else 999.0)
    return result


def checks(path):
    try:
        onnx.checker.check_model(path, full_check=True)
        return None
    except Exception as error:  # noqa: BLE001
        return str(error).strip()[:300]


def interface(path):
    graph = onnx.load(path, load_external_data=False).graph
    held = {i.name for i in graph.initializer}
    return [v.SerializeToString().hex() for v in [*[i for i in graph.input if i.name not in held], *graph.output]], [
        f'{v.name}: {onnx.helper.printable_type(v.type)}' for v in [*[i for i in graph.input if i.name not in held], *graph.output]
    ]


def static(options, method):
    """quantize_static as its documentation advises: shapes inferred and batch norms folded first, per channel, QDQ."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = os.path.join(options.folder, 'prepared.onnx')
    model = onnx.load(options.model)
    opset = next((o.version for o in model.opset_import if o.domain in ('', 'ai.onnx')), 1)
    # Files of IR version 3 list initializers among the inputs, which the passes of quantize_static trip over.
    held = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)
    if opset < 13:
        model = onnx.version_converter.convert_version(model, 13)
    onnx.save(model, prepared)
    try:
        quant_pre_process(prepared, prepared, skip_symbolic_shape=True)
    except Exception:  # noqa: BLE001
        onnx.save(model, prepared)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.all = feeds(session(options.model), options.calibration)

        def get_next(self):
            return next(self.all, None)

    output = os.path.join(options.folder, f'static.{method}.onnx')
    quantize_static(
        prepared,
        output,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method={'minmax': CalibrationMethod.MinMax, 'entropy': CalibrationMethod.Entropy}[method],
    )
    return output


def check(options):
    before, after = interface(options.model), interface(options.int8)
    reference = outputs(options.model, options.evaluation)
    result = {
        'checkerFloat': checks(options.model),
        'checkerInt8': checks(options.int8),
        'interface': None if before[1] == after[1] else f'{before[1]} became {after[1]}',
        'octet': sqnr(reference, outputs(options.int8, options.evaluation)),
        'wide': sqnr(reference, outputs(options.wide, options.evaluation)) if options.wide else {},
        'static': {},
        'staticActivations': None,
        'staticError': None,
    }
    for method in [] if options.alone else ['minmax', 'entropy']:
        try:
            path = static(options, method)
            result['staticActivations'] = sum(n.op_type == 'QuantizeLinear' for n in onnx.load(path).graph.node)
            result['static'][method] = sqnr(reference, outputs(path, options.evaluation))
        except Exception as error:  # noqa: BLE001
            result['staticError'] = f'{type(error).__name__}: {str(error)[:200]}'
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('command', choices=['data', 'check'])
    parser.add_argument('--model', required=True)
    parser.add_argument('--samples', type=int, default=48)
    parser.add_argument('--size', type=int, default=0)
    parser.add_argument('--shapes', default='{}')
    parser.add_argument('--real')
    parser.add_argument('--output')
    parser.add_argument('--evaluation')
    parser.add_argument('--calibration')
    parser.add_argument('--int8')
    parser.add_argument('--wide')
    parser.add_argument('--folder')
    parser.add_argument('--alone', action='store_true')
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    out, sys.stdout = sys.stdout, sys.stderr
    result = {'data': data, 'check': check}[options.command](options)
    print(json.dumps(result), file=out, flush=True)


if __name__ == '__main__':
    main()
