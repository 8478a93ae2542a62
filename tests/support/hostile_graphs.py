"""Models that are small files and ask for much: time, memory, or depth. Each has an end, or should meet one.

`python -m tests.support.hostile_graphs NAME...` takes each through `check` and `lower` in a process of its own, with limits
of time and memory, and prints one line of JSON for each: what it ended with, seconds, and MiB.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.graphs import model, node

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
#: bounds of a case: generous, for a slow machine
SECONDS, MEMORY = 60, 6 << 30


def value(name: str, shape: Sequence[Any] | None = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def plain(
    nodes: list[onnx.NodeProto], constants: dict[str, Any] | None = None, shape: Any = (1, 4), **more: Any
) -> onnx.ModelProto:
    return model(nodes, {"x": shape}, ["y"], constants or {}, **{"shapes": {"y": shape}, **more})


def loop(trips: int, growing: bool = False) -> onnx.ModelProto:
    """A Loop of many trips; growing: whose state doubles in each."""
    step = node("Concat", ["a", "a"], ["b"], axis=0) if growing else node("Add", ["a", "a"], ["b"])
    shape = [None, 4] if growing else [1, 4]
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), step],
        "body",
        [value("i", [], INT64), value("go", [], BOOL), value("a", shape)],
        [value("on", [], BOOL), value("b", shape)],
    )
    return plain(
        [node("Loop", ["trips", "", "x"], ["y"], body=body)], {"trips": np.int64(trips)}, shapes={"y": [None, 4]}
    )


def constant_loop(trips: int) -> onnx.ModelProto:
    """A Loop of constants alone, which folding could compute."""
    proto = loop(trips)
    proto.graph.node[0].input[2] = "c"
    proto.graph.node[0].output[0] = "l"
    proto.graph.node.append(node("Add", ["x", "l"], ["y"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4), np.float32), "c"))
    return proto


def scan(steps: int) -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Add", ["a", "e"], ["b"]), node("Identity", ["b"], ["r"])],
        "body",
        [value("a", [4]), value("e", [4])],
        [value("b", [4]), value("r", [4])],
    )
    nodes = [node("Scan", ["h", "x"], ["last", "y"], body=body, num_scan_inputs=1)]
    return plain(nodes, {"h": np.zeros(4, np.float32)}, (steps, 4))


def functions(depth: int, width: int) -> onnx.ModelProto:
    """Functions that call the one below so many times: width ** depth nodes once they are inlined."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    proto = plain([node(f"F{depth}", ["x"], ["y"], domain="own")])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    for level in range(1, depth + 1):
        names = ["a", *(f"v{i}" for i in range(width - 1)), "b"]
        inner = ("Relu", "") if level == 1 else (f"F{level - 1}", "own")
        nodes = [helper.make_node(inner[0], [names[i]], [names[i + 1]], domain=inner[1]) for i in range(width)]
        proto.functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], nodes, opset))
    return proto


def recursive() -> onnx.ModelProto:
    """Functions that call one another in a circle."""
    proto = functions(2, 1)
    proto.functions[0].node[0].op_type, proto.functions[0].node[0].domain = "F2", "own"
    return proto


def chain(count: int, *kinds: str) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    return plain([node(kinds[i % len(kinds)], [names[i]], [names[i + 1]]) for i in range(count)])


def additions(count: int) -> onnx.ModelProto:
    """A chain that adds a constant of its own in each node."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [node("Add", [names[i], f"c{i}"], [names[i + 1]]) for i in range(count)]
    return plain(nodes, {f"c{i}": np.full((1, 4), i, np.float32) for i in range(count)})


def products(count: int) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(count)]
    return plain(nodes, {"w": np.eye(4, dtype=np.float32)})


def constants(count: int) -> onnx.ModelProto:
    """A chain of constants, to be folded, of which the end is read."""
    names = ["c", *(f"v{i}" for i in range(count))]
    nodes = [node("Sin", [names[i]], [names[i + 1]]) for i in range(count)]
    return plain([*nodes, node("Add", ["x", names[-1]], ["y"])], {"c": np.zeros((1, 4), np.float32)})


def doubling(count: int) -> onnx.ModelProto:
    """Values that are read twice by the next: paths through the graph are 2 ** count."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    return plain([node("Add", [names[i], names[i]], [names[i + 1]]) for i in range(count)])


def fan(count: int) -> onnx.ModelProto:
    """Many outputs of one value."""
    nodes = [node("Neg", ["x"], [f"y{i}"]) for i in range(count)]
    return model(nodes, {"x": [1, 4]}, [f"y{i}" for i in range(count)], shapes={f"y{i}": [1, 4] for i in range(count)})


def many_inputs(count: int) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(count)]
    return model([node("Sum", names, ["y"])], {name: [1, 4] for name in names}, ["y"], shapes={"y": [1, 4]})


def nested(depth: int) -> onnx.ModelProto:
    """If in If in If; protobuf reads about 30 levels of these."""
    graph = helper.make_graph([node("Neg", ["x"], ["r0"])], "g", [], [value("r0", [1, 4])])
    for level in range(1, depth):
        both = helper.make_graph(
            [node("If", ["c"], [f"r{level}"], then_branch=graph, else_branch=graph if level < 3 else tiny(level))],
            "g",
            [],
            [value(f"r{level}", [1, 4])],
        )
        graph = both
    return plain([node("If", ["c"], ["y"], then_branch=graph, else_branch=tiny(depth))], {"c": True})


def tiny(level: int) -> onnx.GraphProto:
    return helper.make_graph([node("Abs", ["x"], [f"e{level}"])], "e", [], [value(f"e{level}", [1, 4])])


def huge_header(dims: list[int], bytes_there: int = 0) -> onnx.ModelProto:
    proto = plain([node("Add", ["x", "w"], ["y"])])
    proto.graph.initializer.append(TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=bytes(bytes_there)))
    return proto


def grown(nodes: list[onnx.NodeProto], **found: Any) -> onnx.ModelProto:
    """A constant that grows when it is folded, and whose mean is added to x."""
    return plain([*nodes, node("ReduceMean", ["big"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])], found)


def sizes(*dims: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(dims, np.int64)


ONE = np.ones((1, 4), np.float32)
T = 1 << 40
CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "loop of 2^40": lambda: loop(T),
    "loop that doubles": lambda: loop(60, growing=True),
    "loop of constants": lambda: constant_loop(T),
    "scan of 10^7 steps": lambda: scan(10_000_000),
    "functions 2^40": lambda: functions(40, 2),
    "functions 100^8": lambda: functions(8, 100),
    "functions 5000 deep": lambda: functions(5000, 1),
    "functions in a circle": recursive,
    "chain of 20,000 Relu": lambda: chain(20_000, "Relu"),
    "chain of 20,000 Sin": lambda: chain(20_000, "Sin", "Cos"),
    "chain of 20,000 Identity": lambda: chain(20_000, "Identity"),
    "chain of 20,000 Neg, Abs, Sigmoid": lambda: chain(20_000, "Neg", "Abs", "Sigmoid"),
    "chain of 20,000 unknown": lambda: chain(20_000, "Foo"),
    "20,000 additions": lambda: additions(20_000),
    "20,000 products": lambda: products(20_000),
    "20,000 constants": lambda: constants(20_000),
    "chain of 2,000 Relu": lambda: chain(2_000, "Relu"),
    "chain of 2,000 Neg, Abs, Sigmoid": lambda: chain(2_000, "Neg", "Abs", "Sigmoid"),
    "chain of 2,000 unknown": lambda: chain(2_000, "Foo"),
    "2,000 additions": lambda: additions(2_000),
    "2,000 products": lambda: products(2_000),
    "2,000 constants": lambda: constants(2_000),
    "batch of 10^7": lambda: plain([node("Relu", ["x"], ["y"])], shape=(10_000_000, 4)),
    "2^200 paths": lambda: doubling(200),
    "20,000 outputs": lambda: fan(20_000),
    "20,000 inputs": lambda: many_inputs(20_000),
    "If 20 deep": lambda: nested(20),
    "14 TiB by header": lambda: huge_header([1 << 20, 1 << 20, 4]),
    "overflow by header": lambda: huge_header([1 << 40, 1 << 40]),
    "0 times 2^62 by header": lambda: huge_header([0, 1 << 62]),
    "ConstantOfShape": lambda: grown([node("ConstantOfShape", ["s"], ["big"])], s=sizes(T)),
    "ConstantOfShape of 8 GiB": lambda: grown([node("ConstantOfShape", ["s"], ["big"])], s=sizes(1 << 31)),
    "Expand": lambda: grown([node("Expand", ["c", "s"], ["big"])], c=ONE, s=sizes(1 << 20, 1 << 20, 1, 4)),
    "Tile": lambda: grown([node("Tile", ["c", "s"], ["big"])], c=ONE, s=sizes(T, 1)),
    "Range": lambda: grown(
        [node("Range", ["a", "b", "d"], ["r"]), node("Cast", ["r"], ["big"], to=FLOAT)],
        a=np.int64(0),
        b=np.int64(T),
        d=np.int64(1),
    ),
    "Resize": lambda: grown(
        [node("Resize", ["c", "", "", "s"], ["big"], mode="nearest")],
        c=ONE[None, None],
        s=sizes(1, 1, 1 << 20, 1 << 20),
    ),
    "Pad": lambda: grown([node("Pad", ["c", "s"], ["big"])], c=ONE, s=sizes(0, 0, T, 0)),
    "OneHot": lambda: grown(
        [node("OneHot", ["i", "s", "v"], ["big"])], i=sizes(*range(64)), s=np.int64(1 << 36), v=np.float32([0, 1])
    ),
    "EyeLike": lambda: grown(
        [node("ConstantOfShape", ["s"], ["z"]), node("EyeLike", ["z"], ["big"])], s=sizes(1 << 20, 1 << 20)
    ),
    "Gather": lambda: grown(
        [
            node("ConstantOfShape", ["s"], ["f"]),
            node("Cast", ["f"], ["i"], to=INT64),
            node("Gather", ["c", "i"], ["big"]),
        ],
        s=sizes(1 << 12, 1 << 12),
        c=np.ones((1, 1 << 12), np.float32),
    ),
    "outer product": lambda: grown(
        [node("MatMul", ["c", "d"], ["big"])], c=np.ones((1 << 17, 1), np.float32), d=np.ones((1, 1 << 17), np.float32)
    ),
    "broadcast": lambda: grown(
        [node("Add", ["c", "d"], ["big"])], c=np.ones((1 << 17, 1), np.float32), d=np.ones((1, 1 << 17), np.float32)
    ),
    "doubled 40 times": lambda: grown(
        [
            *[
                node(
                    "Concat", [f"c{i}" if i else "c", f"c{i}" if i else "c"], [f"c{i + 1}" if i < 39 else "big"], axis=0
                )
                for i in range(40)
            ]
        ],
        c=ONE,
    ),
    "Expand of the input": lambda: plain(
        [node("Expand", ["x", "s"], ["b"]), node("ReduceMean", ["b"], ["y"], keepdims=0)],
        {"s": sizes(1 << 20, 1 << 20, 1, 4)},
        shapes={"y": []},
    ),
    "Tile of the input": lambda: plain(
        [node("Tile", ["x", "s"], ["b"]), node("ReduceMean", ["b"], ["y"], keepdims=0)],
        {"s": sizes(1 << 36, 1)},
        shapes={"y": []},
    ),
    "Pad of the input": lambda: plain(
        [node("Pad", ["x", "s"], ["b"]), node("ReduceMean", ["b"], ["y"], keepdims=0)],
        {"s": sizes(0, 0, 0, 1 << 36)},
        shapes={"y": []},
    ),
    "constant output": lambda: model(
        [node("Neg", ["x"], ["y"]), node("ConstantOfShape", ["s"], ["z"])],
        {"x": [1, 4]},
        ["y", "z"],
        {"s": sizes(T)},
        shapes={"y": [1, 4], "z": [T]},
    ),
    "pool of 2^31 taps": lambda: plain(
        [node("MaxPool", ["x"], ["y"], kernel_shape=[1 << 31, 1 << 31], pads=[1 << 30] * 4)], shape=(1, 1, 4, 4)
    ),
    "convolution of dilation 2^40": lambda: plain(
        [node("Conv", ["x", "w"], ["y"], dilations=[T, T], pads=[T] * 4)],
        {"w": np.ones((1, 1, 3, 3), np.float32)},
        (1, 1, 4, 4),
    ),
    "name of 50 MB": lambda: plain([node("Foo", ["x"], ["y"], name="n" * 50_000_000)]),
    "op of 20 MB": lambda: plain([node("F" * 20_000_000, ["x"], ["y"])]),
    "doc of 50 MB": lambda: documented(),
    "a cycle": lambda: plain([node("Add", ["x", "y"], ["h"]), node("Relu", ["h"], ["y"])]),
    "a node that reads itself": lambda: plain([node("Add", ["x", "y"], ["y"])]),
    "names that come twice": lambda: plain(
        [node("Relu", ["x"], ["y"], name="a"), node("Relu", ["x"], ["y"], name="a")]
    ),
    "rank of 100,000": lambda: plain([node("Relu", ["x"], ["y"])], shape=(1,) * 100_000),
    "Transpose of rank 64": lambda: plain([node("Transpose", ["x"], ["y"], perm=list(range(64)))], shape=(1,) * 64),
    "LSTM of 2^40 units": lambda: plain(
        [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=T)],
        {"w": np.ones((1, 4, 4), np.float32), "r": np.ones((1, 4, 1), np.float32)},
        (1, 1, 4),
    ),
    "Split into 2^31": lambda: plain([node("Split", ["x"], ["y"], num_outputs=1 << 31)], opset=18),
    "CumSum of 10^6 steps": lambda: plain([node("CumSum", ["x", "a"], ["y"])], {"a": np.int64(1)}, (1, 1_000_000)),
    "Einsum of 26 axes": lambda: plain(
        [node("Einsum", ["x"], ["y"], equation="abcdefghijklmnopqrstuvwxyz->a")], shape=(2,) * 26, shapes={"y": [2]}
    ),
}


#: those that take seconds by themselves
SLOW = {
    *(name for name in CASES if " 20,000" in f" {name}" and name != "chain of 20,000 Relu"),
    *(name for name in CASES if " 2,000" in f" {name}" and name != "chain of 2,000 unknown"),
    "scan of 10^7 steps",
    "batch of 10^7",
    "name of 50 MB",
    "op of 20 MB",
    "doc of 50 MB",
}


def documented() -> onnx.ModelProto:
    proto = chain(3, "Relu")
    proto.doc_string = "d" * 50_000_000
    return proto


# ---- Running ---------------------------------------------------------------------------------------------------------


def _attempt(name: str) -> str:
    """What `check` and `lower` of a case end with."""
    from edgeprop.export.check import check
    from edgeprop.export.lower import lower

    data = CASES[name]().SerializeToString()
    result = check(data)
    try:
        lower(data)
        lowered = "taken"
    except ValueError as error:
        lowered = f"{type(error).__name__}: {error}"
    return f"{result.status}: {result.message}\n{lowered}"


def _in_process(name: str) -> dict[str, Any]:
    """A case in a forked process: how it ended, its time, and the most memory it and its children took."""
    source, sink = os.pipe()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(source)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(SECONDS)
        faulthandler.dump_traceback_later(SECONDS - 3)
        with os.fdopen(sink, "w") as file:
            try:
                told = _attempt(name)
            except BaseException as error:
                told = f"crash: {type(error).__name__}: {error}"
            file.write(told[:20_000])
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        told = file.read()
    _, status, usage = os.wait4(child, 0)
    if status:
        told = f"killed: signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return {"name": name, "told": told, "seconds": round(time.monotonic() - begin, 2), "mib": usage.ru_maxrss >> 10}


def results(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each case, one after the other."""
    import edgeprop.export.check
    import edgeprop.export.lower  # noqa: F401

    for name in names:
        yield _in_process(name)


if __name__ == "__main__":
    for found in results(sys.argv[1:] or list(CASES)):
        print(json.dumps(found), flush=True)
