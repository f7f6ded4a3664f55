"""Reads a safetensors file with numpy alone: u64 header length, JSON header, raw little-endian data."""
import json
import numpy as np

DTYPES = {"F64": np.float64, "F32": np.float32, "I32": np.int32, "I64": np.int64, "U8": np.uint8}


def read_safetensors(path):
    """-> {name: array}"""
    with open(path, "rb") as file:
        data = file.read()
    length = int.from_bytes(data[:8], "little")
    header, start = json.loads(data[8:8 + length]), 8 + length
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data, DTYPES[entry["dtype"]], offset=start + begin, count=(end - begin) // np.dtype(DTYPES[entry["dtype"]]).itemsize).reshape(entry["shape"]).copy()
    return tensors
