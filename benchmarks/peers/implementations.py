# SPDX-License-Identifier: MIT
"""The implementations of LayerNorm that layer_norm.py times, behind one interface.

Needs of each beside PyTorch: lamina: liblamina_kernels.so (examples/pytorch/lamina_kernels.py says where);
triton: triton; liger: liger-kernel; quack: quack-kernels. They are imported when an object is made.
"""
import importlib
import importlib.metadata
import pathlib
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "examples" / "pytorch"))  # lamina_kernels.py: the C functions through ctypes
EPS = 1e-5


@dataclass
class Operands:
    """One set: x, residual, dy [rows, cols]; mean, rstd [rows], f32; weight, bias [cols], shared by all sets."""
    x: torch.Tensor
    residual: torch.Tensor
    dy: torch.Tensor
    mean: torch.Tensor
    rstd: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    weight_f32: torch.Tensor
    bias_f32: torch.Tensor

    def leaves(self):
        """x, weight and bias as autograd sees parameters: the same memory, differentiable."""
        return [tensor.detach().requires_grad_() for tensor in (self.x, self.weight, self.bias)]


class Missing(Exception):
    """An implementation does not offer an operation; the text is the reason."""


class Implementation:
    """Each operation returns its outputs in the order of reference()."""
    def __init__(self):
        self.note = ""

    def forward(self, s):
        raise Missing("has no forward function of its own")

    def add_forward(self, s):
        raise Missing("has no fused residual addition")

    def backward(self, s):
        raise Missing("has no backward function of its own")

    def forward_backward(self, s):
        raise Missing("has no backward function")

    def autograd(self, function, s):
        x, weight, bias = s.leaves()
        y = function(x, weight, bias)
        return y.detach(), *torch.autograd.grad(y, (x, weight, bias), s.dy)


class Lamina(Implementation):
    def __init__(self):
        super().__init__()
        import lamina_kernels
        self.abi = lamina_kernels
        self.note = f"lamina_kernels {lamina_kernels.version()}"
        self.codes = {torch.bfloat16: lamina_kernels.BF16, torch.float16: lamina_kernels.F16,
                      torch.float32: lamina_kernels.F32}

    def matrix(self, tensor):
        return self.abi.Matrix(tensor.data_ptr(), tensor.stride(0), self.codes[tensor.dtype])

    def vector(self, tensor):
        return self.abi.Vector(tensor.data_ptr(), self.codes[tensor.dtype])

    def call(self, name, args):
        self.abi.call(name, args, torch.cuda.current_device(), torch.cuda.current_stream().cuda_stream)

    def normalise(self, s, **stream):
        """Returns y, mean, rstd; stream: residual and sum, or nothing."""
        rows, cols = s.x.shape
        y, mean, rstd = torch.empty_like(s.x), torch.empty_like(s.mean), torch.empty_like(s.rstd)
        self.call("layer_norm", self.abi.NormArgs(
            rows=rows, cols=cols, x=self.matrix(s.x), y=self.matrix(y), weight=self.vector(s.weight),
            bias=self.vector(s.bias), mean=mean.data_ptr(), rstd=rstd.data_ptr(), eps=EPS,
            **{name: self.matrix(tensor) for name, tensor in stream.items()}))
        return y, mean, rstd

    def forward(self, s):
        return self.normalise(s)

    def add_forward(self, s):
        total = torch.empty_like(s.x)
        return total, *self.normalise(s, residual=s.residual, sum=total)

    def backward(self, s, mean=None, rstd=None):
        rows, cols = s.x.shape
        mean, rstd = (s.mean, s.rstd) if mean is None else (mean, rstd)
        dx, dweight, dbias = torch.empty_like(s.x), torch.empty_like(s.weight), torch.empty_like(s.bias)
        args = self.abi.NormBackwardArgs(
            rows=rows, cols=cols, x=self.matrix(s.x), dy=self.matrix(s.dy), weight=self.vector(s.weight),
            mean=mean.data_ptr(), rstd=rstd.data_ptr(), dx=self.matrix(dx), dweight=self.vector(dweight),
            dbias=self.vector(dbias))
        args.workspace_bytes = self.abi.workspace_bytes("layer_norm_backward", args, torch.cuda.current_device())
        workspace = torch.empty(args.workspace_bytes, dtype=torch.uint8, device=s.x.device)
        args.workspace = workspace.data_ptr() or None
        self.call("layer_norm_backward", args)
        return dx, dweight, dbias

    def forward_backward(self, s):
        y, mean, rstd = self.forward(s)
        return y, *self.backward(s, mean, rstd)


class Eager(Implementation):
    @staticmethod
    def layer_norm(x, weight, bias):
        return F.layer_norm(x, weight.shape, weight, bias, EPS)

    @staticmethod
    def add_layer_norm(x, residual, weight, bias):
        total = x + residual
        return total, F.layer_norm(total, weight.shape, weight, bias, EPS)

    def forward(self, s):
        return (self.layer_norm(s.x, s.weight, s.bias),)

    def add_forward(self, s):
        return self.add_layer_norm(s.x, s.residual, s.weight, s.bias)

    def backward(self, s):
        return torch.ops.aten.native_layer_norm_backward(
            s.dy, s.x, s.weight.shape, s.mean[:, None], s.rstd[:, None], s.weight, s.bias, [True] * 3)

    def forward_backward(self, s):
        return self.autograd(self.layer_norm, s)


class Compile(Eager):
    """A shape of its own for each compilation (dynamic=False); measure() forgets them between shapes."""
    def __init__(self):
        super().__init__()
        self.layer_norm = torch.compile(Eager.layer_norm, dynamic=False)
        self.add_layer_norm = torch.compile(Eager.add_layer_norm, dynamic=False)

    def backward(self, s):
        raise Missing("compiles the backward pass together with the forward pass only")


class Triton(Implementation):
    def __init__(self):
        super().__init__()
        import triton
        import triton_layer_norm
        self.kernels = triton_layer_norm
        self.note = f"triton {triton.__version__}"

    def forward(self, s):
        return self.kernels.forward(s.x, s.weight, s.bias, EPS)

    def add_forward(self, s):
        return self.kernels.add_forward(s.x, s.residual, s.weight, s.bias, EPS)

    def backward(self, s):
        return self.kernels.backward(s.dy, s.x, s.weight, s.mean, s.rstd)

    def forward_backward(self, s):
        y, mean, rstd = self.forward(s)
        return y, *self.kernels.backward(s.dy, s.x, s.weight, mean, rstd)


class Liger(Implementation):
    def __init__(self):
        super().__init__()
        from liger_kernel.ops import layer_norm
        self.ops = layer_norm
        self.note = f"liger-kernel {importlib.metadata.version('liger-kernel')}"

    def forward(self, s):
        y, _, mean, rstd, _, _ = self.ops.layer_norm_forward(s.x, s.weight, s.bias, EPS)
        return y, mean, rstd

    def backward(self, s):
        return self.ops.layer_norm_backward(s.dy, s.x, s.weight, s.bias, s.mean, s.rstd)

    def forward_backward(self, s):
        return self.autograd(lambda *x: self.ops.LigerLayerNormFunction.apply(*x, EPS), s)


class Quack(Implementation):
    def __init__(self):
        super().__init__()
        self.ops = importlib.import_module("quack.rmsnorm")  # quack.rmsnorm is also a function
        self.note = f"quack-kernels {importlib.metadata.version('quack-kernels')}, weight and bias in f32"

    def forward(self, s):
        y, rstd, mean = self.ops.layernorm_fwd(s.x, s.weight_f32, s.bias_f32, EPS, return_rstd=True,
                                               return_mean=True)
        return y, mean, rstd

    def backward(self, s, mean=None, rstd=None):
        return self.ops.layernorm_bwd(s.x, s.weight_f32, s.dy, s.rstd if rstd is None else rstd,
                                      s.mean if mean is None else mean, has_bias=True)

    def forward_backward(self, s):
        y, mean, rstd = self.forward(s)
        return y, *self.backward(s, mean, rstd)


IMPLEMENTATIONS = {"lamina": Lamina, "eager": Eager, "compile": Compile, "triton": Triton, "liger": Liger,
                   "quack": Quack}
