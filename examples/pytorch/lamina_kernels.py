# SPDX-License-Identifier: MIT
"""liblamina_kernels for Python, through ctypes: the structs of cuda_kernels/lamina_kernels.h and a call.

Knows pointers and numbers only; lamina_norm.py makes PyTorch operators of it.
"""

import ctypes
import functools
import os
import pathlib

F32, F16, BF16 = range(3)
OVERWRITE, ACCUMULATE = range(2)


class Matrix(ctypes.Structure):
    """[rows, cols] of its call; stride in elements."""

    _fields_ = [("data", ctypes.c_void_p), ("stride", ctypes.c_int64), ("dtype", ctypes.c_int32)]


class Vector(ctypes.Structure):
    """[cols] of its call."""

    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_int32)]


def _fields(ctype, names):
    return [(name, ctype) for name in names.split()]


class Args(ctypes.Structure):
    """Base of the argument structs: fills in `size`; what is not named is zero."""

    def __init__(self, **members):
        super().__init__(size=ctypes.sizeof(self), **members)


class NormArgs(Args):
    _fields_ = [
        ("size", ctypes.c_size_t),
        *_fields(ctypes.c_int64, "rows cols"),
        *_fields(Matrix, "x residual sum y"),
        *_fields(Vector, "weight bias"),
        *_fields(ctypes.c_void_p, "mean rstd"),
        ("eps", ctypes.c_double),
        ("drop_p", ctypes.c_float),
        *_fields(ctypes.c_uint64, "seed offset"),
    ]


class NormBackwardArgs(Args):
    _fields_ = [
        ("size", ctypes.c_size_t),
        *_fields(ctypes.c_int64, "rows cols"),
        *_fields(Matrix, "x dy dsum"),
        ("weight", Vector),
        *_fields(ctypes.c_void_p, "mean rstd"),
        *_fields(Matrix, "dx dx_drop"),
        *_fields(Vector, "dweight dbias"),
        ("column_sum", ctypes.c_void_p),
        *_fields(ctypes.c_int32, "dx_write dweight_write dbias_write"),
        ("drop_p", ctypes.c_float),
        *_fields(ctypes.c_uint64, "seed offset"),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_int64),
    ]


_FUNCTIONS = {
    "layer_norm": NormArgs,
    "layer_norm_backward": NormBackwardArgs,
    "rms_norm": NormArgs,
    "rms_norm_backward": NormBackwardArgs,
}


def _default_path():
    from_environment = os.environ.get("LAMINA_KERNELS")
    if from_environment:
        return pathlib.Path(from_environment)
    root = pathlib.Path(__file__).resolve().parents[2]
    return root / "build" / "cuda" / "cuda_kernels" / "liblamina_kernels.so"


@functools.cache
def library():
    """The library of $LAMINA_KERNELS, or of this repository's build/cuda. Loaded at the first call."""
    path = _default_path()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(
            f"lamina_kernels: {path} could not be loaded ({error}), expected the shared library; build it with "
            "`cmake --preset cuda && cmake --build --preset cuda --target lamina_kernels`, or set "
            "LAMINA_KERNELS to its path"
        ) from error
    loaded.lamina_last_error.restype = ctypes.c_char_p
    loaded.lamina_version.restype = ctypes.c_char_p
    for name, args in _FUNCTIONS.items():
        getattr(loaded, f"lamina_{name}").argtypes = [ctypes.POINTER(args), ctypes.c_int, ctypes.c_void_p]
        if name.endswith("_backward"):
            ask = getattr(loaded, f"lamina_{name}_workspace_bytes")
            ask.argtypes = [ctypes.POINTER(args), ctypes.c_int, ctypes.POINTER(ctypes.c_int64)]
    return loaded


def version():
    return library().lamina_version().decode()


def call(name, args, device, stream):
    """Queues `lamina_<name>` on the stream (an address, 0 for the default one) of a device (an index)."""
    if getattr(library(), f"lamina_{name}")(ctypes.byref(args), device, stream):
        raise RuntimeError(library().lamina_last_error().decode())


def workspace_bytes(name, args, device):
    """The scratch memory that `lamina_<name>` needs for these operands."""
    needed = ctypes.c_int64()
    ask = getattr(library(), f"lamina_{name}_workspace_bytes")
    if ask(ctypes.byref(args), device, ctypes.byref(needed)):
        raise RuntimeError(library().lamina_last_error().decode())
    return needed.value
