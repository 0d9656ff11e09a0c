"""ONNX Runtime as the encoder benchmark's peer: a BERT model in f32 and int8, one thread.

    python encoder_onnxruntime.py MODEL_DIR

Builds the graph that ONNX Runtime's own transformer optimiser arrives at (fused Attention, SkipLayerNormalization,
BiasGelu) straight from the weights, so neither torch nor an export is needed; int8 is ONNX Runtime's dynamic
quantisation of that graph. Then answers one JSON line for each JSON line on standard input:

    {"dtype": "f32", "ids": [[101, …], …], "calls": 5}  →  {"ms": […], "embeddings": [[…], …]}

The embeddings are mean-pooled and of unit length; pooling is not part of the time. Needs numpy, onnx, onnxruntime.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

MICROSOFT = "com.microsoft"


def read_safetensors(path):
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, info in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__" or info["dtype"] != "F32":
            continue
        start, end = (8 + size + offset for offset in info["data_offsets"])
        tensors[name] = np.frombuffer(raw[start:end], "<f4").reshape(info["shape"])
    return tensors


def build(folder):
    config = json.loads((folder / "config.json").read_text())
    weights = read_safetensors(folder / "model.safetensors")
    heads, layers, epsilon = config["num_attention_heads"], config["num_hidden_layers"], config["layer_norm_eps"]
    initial, nodes = [], []

    def constant(name, array):
        initial.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def node(kind, inputs, output, domain="", **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def parts(name):
        return [constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]

    types = weights["embeddings.token_type_embeddings.weight"][0]
    constant("words", weights["embeddings.word_embeddings.weight"])
    constant("positions", weights["embeddings.position_embeddings.weight"] + types)
    word = node("Gather", ["words", "input_ids"], "word")
    place = node("Gather", ["positions", "position_ids"], "place")
    total = node("Add", [word, place], "embedded")
    x = node(
        "LayerNormalization", [total, *parts("embeddings.LayerNorm")], "x0", axis=-1, epsilon=epsilon
    )
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        qkv = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        w = constant(f"{layer}.qkv.weight", np.concatenate([weights[f"{n}.weight"].T for n in qkv], axis=1))
        b = constant(f"{layer}.qkv.bias", np.concatenate([weights[f"{n}.bias"] for n in qkv]))
        context = node("Attention", [x, w, b], f"context{i}", MICROSOFT, num_heads=heads)

        def product(value, name, output):
            return node("MatMul", [value, constant(f"{name}.T", weights[f"{name}.weight"].T)], output)

        def skip(value, residual, dense, norm, output):
            bias = constant(f"{dense}.bias", weights[f"{dense}.bias"])
            inputs = [value, residual, *parts(norm), bias]
            return node("SkipLayerNormalization", inputs, output, MICROSOFT, epsilon=epsilon)

        dense = f"{layer}.attention.output.dense"
        y = skip(product(context, dense, f"attended{i}"), x, dense, f"{layer}.attention.output.LayerNorm", f"y{i}")
        dense = f"{layer}.intermediate.dense"
        inner = product(y, dense, f"inner{i}")
        inner = node("BiasGelu", [inner, constant(f"{dense}.bias", weights[f"{dense}.bias"])], f"gelu{i}", MICROSOFT)
        dense = f"{layer}.output.dense"
        x = skip(product(inner, dense, f"outer{i}"), y, dense, f"{layer}.output.LayerNorm", f"x{i + 1}")
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "position_ids")],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [*shape, config["hidden_size"]])],
        initial,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main():
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        exact, quick = Path(work) / "f32.onnx", Path(work) / "int8.onnx"
        onnx.save(build(folder), exact)
        quantize_dynamic(
            exact,
            quick,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Attention"],
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        sessions = {"f32": session(exact), "int8": session(quick)}
    print(json.dumps({"version": ort.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        ids = np.array(job["ids"], np.int64)
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        feed = {"input_ids": ids, "position_ids": np.ascontiguousarray(places, np.int64)}
        run = sessions[job["dtype"]].run
        times = []
        for _ in range(job["calls"]):
            start = time.perf_counter()
            (states,) = run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
        pooled = states.mean(axis=1)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        print(json.dumps({"ms": times, "embeddings": pooled.tolist()}), flush=True)


if __name__ == "__main__":
    main()
