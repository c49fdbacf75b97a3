# SPDX-License-Identifier: MIT
"""Tests of lamina_norm against torch.nn and f64. Needs a GPU and liblamina_kernels:

    python3 examples/pytorch/test_lamina_norm.py

Without a GPU the tests are skipped, or fail if LAMINA_REQUIRE_CUDA is set.
"""

import itertools
import os
import unittest

import torch
import torch.nn.functional as F

import lamina_norm
from lamina_norm import (
    FusedLayerNorm, FusedRMSNorm, fused_add_layer_norm, fused_add_rms_norm, layer_norm, rms_norm,
)

DEVICE = "cuda"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((1, 1), (7, 1), (5, 33), (3, 5, 64), (4, 768), (2, 3, 1000), (130, 1024), (3, 5000), (2, 40000))


def random(*shape, dtype=torch.float32, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale + shift).to(DEVICE, dtype)


def rounding(dtype):
    """The relative error of one rounding to nearest."""
    return torch.finfo(dtype).eps / 2


class Case(unittest.TestCase):
    def expect_close(self, actual, reference, slack=4e-6, what=""):
        """One rounding to its dtype, plus `slack` times the largest reference (0.1 at least) for f32 arithmetic."""
        reference = reference.double()
        self.assertEqual(actual.shape, reference.shape, what)
        if reference.numel() == 0:
            return
        bound = 1.01 * rounding(actual.dtype) * reference.abs() + slack * reference.abs().max().clamp_min(0.1)
        if actual.dtype == torch.float16:
            bound = bound + 2.0**-25  # half the smallest subnormal
        worst = ((actual.double() - reference).abs() / bound).max().item()
        self.assertLessEqual(worst, 1.0, f"{what}: {worst} times the allowed error")

    def expect_equal(self, actual, expected, what=""):
        self.assertEqual(actual.dtype, expected.dtype, what)
        self.assertTrue(torch.equal(actual, expected), what)


def parameters(cols, dtype, seed=10):
    return random(cols, dtype=dtype, seed=seed, shift=1.0), random(cols, dtype=dtype, seed=seed + 1)


def with_grad(*tensors):
    return [None if t is None else t.detach().clone().requires_grad_() for t in tensors]


def gradients(outputs, inputs, upstream):
    wanted = [t for t in inputs if t is not None]
    return torch.autograd.grad(outputs, wanted, upstream, retain_graph=True)


def doubled(*tensors):
    return [None if t is None else t.detach().double().requires_grad_() for t in tensors]


class LayerNorm(Case):
    def test_equals_f64_forward_and_backward(self):
        for dtype, shape, f32_parameters in itertools.product(DTYPES, SHAPES, (False, True)):
            cols = shape[-1:]
            weight, bias = parameters(cols[0], torch.float32 if f32_parameters else dtype)
            for w, b in ((weight, bias), (weight, None), (None, bias), (None, None)):
                what = f"{dtype} {shape} f32 parameters {f32_parameters} weight {w is not None} bias {b is not None}"
                inputs = with_grad(random(*shape, dtype=dtype, shift=0.5), w, b)
                dy = random(*shape, dtype=dtype, seed=2)
                y = layer_norm(inputs[0], cols, *inputs[1:])
                exact = doubled(*inputs)
                y64 = F.layer_norm(exact[0], cols, *exact[1:])
                self.expect_close(y, y64, what="y " + what)
                ours = gradients([y], inputs, [dy])
                reference = gradients([y64], exact, [dy.double()])
                self.assertEqual([g.dtype for g in ours], [t.dtype for t in inputs if t is not None], what)
                slack = 1e-5 if cols[0] > 1 else 1e-3  # of one column rstd is 1 / sqrt(eps) = 316
                for actual, wanted in zip(ours, reference):
                    self.expect_close(actual, wanted, slack, "gradient " + what)

    def test_is_as_exact_as_pytorch(self):
        for dtype, shape in itertools.product(DTYPES, ((64, 768), (33, 4096))):
            x = random(*shape, dtype=dtype, shift=3.0)
            theirs = torch.nn.LayerNorm(shape[-1]).to(DEVICE, dtype)
            ours = FusedLayerNorm(shape[-1]).to(DEVICE, dtype)
            exact = F.layer_norm(x.double(), shape[-1:])
            error = (ours(x).double() - exact).abs().max()
            self.assertLessEqual(error.item(), 1.05 * (theirs(x).double() - exact).abs().max().item() + 1e-6)

    def test_any_subset_of_gradients(self):
        x, weight, bias = random(9, 320), *parameters(320, torch.float32)
        dy = random(9, 320, seed=2)
        everything = gradients([layer_norm(*(full := with_grad(x, weight, bias))[:1], (320,), *full[1:])], full, [dy])
        for needed in itertools.product((False, True), repeat=3):
            if not any(needed):
                self.assertFalse(layer_norm(x, (320,), weight, bias).requires_grad)
                continue
            inputs = [t.clone().requires_grad_(n) for t, n in zip((x, weight, bias), needed)]
            layer_norm(inputs[0], (320,), *inputs[1:]).backward(dy)
            for tensor, n, expected in zip(inputs, needed, everything):
                self.expect_equal(tensor.grad, expected) if n else self.assertIsNone(tensor.grad)

    def test_adds_to_gradients(self):
        norm, x = FusedLayerNorm(96).to(DEVICE), random(6, 96)
        norm(x).square().sum().backward()
        once = norm.weight.grad.clone()
        norm(x).square().sum().backward()
        self.expect_equal(norm.weight.grad, 2 * once)

    def test_several_normalised_dimensions(self):
        theirs, ours = torch.nn.LayerNorm((4, 6, 8)).to(DEVICE), FusedLayerNorm((4, 6, 8)).to(DEVICE)
        x = random(5, 4, 6, 8)
        self.expect_close(ours(x), theirs(x))
        ours(x).square().sum().backward()
        theirs(x).square().sum().backward()
        self.expect_close(ours.weight.grad, theirs.weight.grad, slack=1e-5)

    def test_strided_inputs(self):
        wide = random(6, 10, 160)
        for x in (wide[..., :128], wide[..., 3:131], wide[:, ::2, :128], wide.transpose(0, 1), wide.transpose(1, 2),
                  wide[0].T, wide[0, :1].expand(10, 160), wide[0, 0]):
            a = x.detach().requires_grad_()  # a clone would be contiguous
            (b,) = with_grad(x.contiguous())
            y, expected = (layer_norm(t, t.shape[-1:]) for t in (a, b))
            self.expect_close(y, expected)  # another alignment may run another variant: other last bits
            upstream = random(*x.shape[::-1], seed=2)
            for dy in (upstream.permute(*range(x.dim())[::-1]), upstream.flatten()[0].expand(x.shape)):
                actual, wanted = (gradients([out], [t], [d])[0]
                                  for out, t, d in ((y, a, dy), (expected, b, dy.contiguous())))
                self.expect_close(actual, wanted, slack=1e-5)

    def test_empty_inputs(self):
        for shape in ((0, 8), (4, 0, 8)):
            norm, x = FusedLayerNorm(8).to(DEVICE), random(*shape).requires_grad_()
            y = norm(x)
            y.sum().backward()
            self.assertEqual((y.shape, x.grad.shape), (x.shape, x.shape))
            self.assertEqual(norm.weight.grad.abs().sum().item() + norm.bias.grad.abs().sum().item(), 0.0)

    def test_nan_and_inf_stay_in_their_row(self):
        x = random(5, 512)
        y = layer_norm(x, (512,))
        x[1, 7], x[3, 0] = float("nan"), float("inf")
        broken = layer_norm(x, (512,))
        self.assertTrue(broken[1].isnan().all() and broken[3].isnan().any())
        self.expect_equal(broken[[0, 2, 4]], y[[0, 2, 4]])

    def test_runs_are_bitwise_equal(self):
        inputs = with_grad(random(3000, 768, dtype=torch.float16), *parameters(768, torch.float32))
        dy = random(3000, 768, dtype=torch.float16, seed=2)
        runs = [gradients([layer_norm(inputs[0], (768,), *inputs[1:])], inputs, [dy]) for _ in range(5)]
        for run in runs[1:]:
            for first, again in zip(runs[0], run):
                self.expect_equal(again, first)


class AddNorm(Case):
    def test_equals_f64_forward_and_backward(self):
        for fused_add, norm, count in ((fused_add_layer_norm, F.layer_norm, 2), (fused_add_rms_norm, self.rms_norm, 1)):
            for (dtype, stream), shape in itertools.product(
                ((torch.float32, torch.float32), (torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16),
                 (torch.float16, torch.float32), (torch.bfloat16, torch.float32)), SHAPES[2:]):
                self.check(fused_add, norm, count, dtype, stream, shape)

    @staticmethod
    def rms_norm(x, cols, weight):
        return F.rms_norm(x, cols, weight, eps=torch.finfo(torch.float32).eps)

    def check(self, fused_add, norm, parameter_count, dtype, stream, shape):
        what = f"{fused_add.__name__} of {dtype} with a stream of {stream} {shape}"
        cols = shape[-1:]
        residual, x = random(*shape, dtype=stream), random(*shape, dtype=dtype, seed=1)
        inputs = with_grad(residual, x, *parameters(cols[0], torch.float32)[:parameter_count])
        dsum, dy = random(*shape, dtype=stream, seed=3), random(*shape, dtype=dtype, seed=4)
        total, y = fused_add(*inputs)
        self.expect_equal(total, (residual.float() + x.float()).to(stream), what)
        self.assertEqual(y.dtype, dtype, what)
        exact = doubled(total, *inputs[2:])
        y64 = norm(exact[0], cols, *exact[1:])
        self.expect_close(y, y64, what="y " + what)
        ours = gradients([total, y], inputs, [dsum, dy])
        d64 = gradients([y64, exact[0] * 1], exact, [dy.double(), dsum.double()])
        for name, actual, wanted in zip(("residual", "x", "weight", "bias"), ours, (d64[0], *d64)):
            self.expect_close(actual, wanted, slack=1e-5, what=f"gradient of {name} {what}")
        dy_only = gradients([norm(exact[0], cols, *exact[1:])], exact[:1], [dy.double()])[0]
        for one, upstream, wanted in ((total, dsum, dsum), (y, dy, dy_only)):  # the other output is not used
            for actual in gradients([one], inputs[:2], [upstream]):
                self.expect_close(actual, wanted, slack=1e-5, what="gradient through one output " + what)

    def test_equals_the_unfused_composition(self):
        for dtype in DTYPES:
            residual, x = random(40, 768, dtype=dtype), random(40, 768, dtype=dtype, seed=1)
            weight, bias = parameters(768, dtype)
            total, y = fused_add_layer_norm(residual, x, weight, bias)
            self.expect_equal(total, residual + x)
            # Bit for bit only where both run the same variant, which the tuning table decides.
            exact = F.layer_norm(total.double(), (768,), weight.double(), bias.double())
            self.expect_close(y, exact)
            self.expect_close(layer_norm(total, (768,), weight, bias), exact)

    def test_dropout(self):
        p, residual, x = 0.25, random(64, 1024, shift=9.0), random(64, 1024, seed=1, shift=3.0)
        norm = FusedLayerNorm(1024).to(DEVICE)
        torch.manual_seed(5)
        inputs = with_grad(residual, x)
        total, y = norm.add_and_norm(*inputs, p=p)
        kept = total != residual
        self.assertAlmostEqual(kept.double().mean().item(), 1 - p, delta=5 * (p * (1 - p) / x.numel()) ** 0.5)
        self.expect_close(total, residual + kept * x / (1 - p), slack=1e-6)
        self.expect_equal(y, norm(total))
        dresidual, dx = gradients([total, y], inputs, [random(64, 1024, seed=2), random(64, 1024, seed=3)])
        self.expect_close(dx, dresidual * kept / (1 - p), slack=1e-6)
        self.assertFalse(torch.equal(norm.add_and_norm(residual, x, p=p)[0], total), "another mask each time")
        torch.manual_seed(5)
        self.expect_equal(norm.add_and_norm(residual, x, p=p)[0], total)
        self.expect_equal(norm.eval().add_and_norm(residual, x, p=p)[0], residual + x)


class RmsNorm(Case):
    def test_equals_f64_forward_and_backward(self):
        for dtype, shape, has_weight in itertools.product(DTYPES, SHAPES[2:], (True, False)):
            cols, what = shape[-1:], f"{dtype} {shape} weight {has_weight}"
            inputs = with_grad(random(*shape, dtype=dtype), parameters(cols[0], dtype)[0] if has_weight else None)
            dy = random(*shape, dtype=dtype, seed=2)
            y = rms_norm(inputs[0], cols, inputs[1], eps=1e-5)
            exact = doubled(*inputs)
            y64 = F.rms_norm(exact[0], cols, exact[1], eps=1e-5)
            self.expect_close(y, y64, what="y " + what)
            for actual, wanted in zip(gradients([y], inputs, [dy]), gradients([y64], exact, [dy.double()])):
                self.expect_close(actual, wanted, slack=1e-5, what="gradient " + what)

    def test_default_eps_is_that_of_pytorch(self):
        for dtype in DTYPES:
            x = random(4, 64, dtype=dtype, scale=1e-3)
            self.expect_close(FusedRMSNorm(64).to(DEVICE, dtype)(x), F.rms_norm(x.float(), (64,)), slack=1e-5)


class InPyTorch(Case):
    def model(self):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second, self.last = FusedLayerNorm(96), FusedLayerNorm(96), FusedRMSNorm(96)
                self.linear = torch.nn.Linear(96, 96)

            def forward(self, x, p):
                total, y = self.second.add_and_norm(x, self.linear(self.first(x)), p)
                return self.last.add_and_norm(total, y, p)[1]

        torch.manual_seed(0)
        return Model().to(DEVICE)

    def test_compiles_to_one_graph(self):
        for backend, p in itertools.product(("aot_eager", "inductor"), (0.0, 0.1)):
            torch._dynamo.reset()
            model = self.model()
            compiled = torch.compile(model, fullgraph=True, backend=backend)
            for rows in (8, 8, 12):  # the third makes the rows a symbol
                x = random(2, rows, 96, seed=rows)
                out = compiled(x, p)
                if p == 0.0:
                    self.expect_close(out, model(x, p), slack=1e-5)
                out.square().sum().backward()
            self.assertTrue(all(parameter.grad.isfinite().all() for parameter in model.parameters()))

    def test_operators_are_registered_in_full(self):
        x, (weight, bias) = random(6, 32).requires_grad_(), with_grad(*parameters(32, torch.float32))
        key = torch.tensor([3, 4])
        for kind, shift in (("layer_norm", bias), ("rms_norm", None)):
            torch.library.opcheck(lamina_norm._norm, (kind, x, weight, shift, 1e-5, torch.float32))
            for arguments in ((x, x, weight, shift, 1e-5, 0.0, None), (x, x, None, None, 1e-5, 0.5, key)):
                torch.library.opcheck(lamina_norm._add_norm, (kind, *arguments))

    def test_autocast_gives_what_the_next_linear_layer_takes(self):
        for dtype, kind in itertools.product(DTYPES[1:], (FusedLayerNorm, FusedRMSNorm)):
            norm, linear = kind(128, eps=1e-5).to(DEVICE), torch.nn.Linear(128, 128).to(DEVICE)
            reference = F.layer_norm if kind is FusedLayerNorm else lambda t, shape: F.rms_norm(t, shape, eps=1e-5)
            x = random(16, 128)
            with torch.autocast(DEVICE, dtype):
                y, narrow = norm(x), linear(x)
                total, z = norm.add_and_norm(x, narrow)
                out = linear(y)
            self.assertEqual((y.dtype, total.dtype, z.dtype), (dtype, torch.float32, dtype))
            self.expect_close(y, reference(x.double(), (128,)))
            self.expect_close(z, reference(total.double(), (128,)))
            (out.float().sum() + z.float().square().sum()).backward()
            self.assertEqual(norm.weight.grad.dtype, torch.float32)

    def test_state_dict_is_that_of_torch_nn(self):
        for theirs, ours, options in (
            (torch.nn.LayerNorm, FusedLayerNorm, {}), (torch.nn.LayerNorm, FusedLayerNorm, {"bias": False}),
            (torch.nn.LayerNorm, FusedLayerNorm, {"elementwise_affine": False}), (torch.nn.RMSNorm, FusedRMSNorm, {})):
            a, b = (kind((2, 24), eps=1e-3, device=DEVICE, dtype=torch.float16, **options) for kind in (theirs, ours))
            for parameter in a.parameters():
                torch.nn.init.normal_(parameter)
            b.load_state_dict(a.state_dict())
            a.load_state_dict(b.state_dict())
            self.assertEqual(repr(a).partition("(")[2], repr(b).partition("(")[2])
            x = random(3, 2, 24, dtype=torch.float16)
            self.expect_close(b(x), a(x), slack=2e-3)

    def test_cuda_graph(self):
        model, x = self.model(), random(64, 96)
        dy = random(64, 96, seed=1)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warms up: kernels are loaded at their first use
            for _ in range(2):
                torch.autograd.grad(model(x, 0.0), list(model.parameters()), dy)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = model(x, 0.0)
            captured = torch.autograd.grad(out, list(model.parameters()), dy)
        x.copy_(random(64, 96, seed=7))
        graph.replay()
        expected = torch.autograd.grad(model(x, 0.0), list(model.parameters()), dy)
        for actual, wanted in zip(captured, expected):
            self.expect_equal(actual, wanted)

    def test_runs_on_the_current_stream(self):
        x, values = torch.zeros(256, 4096, device=DEVICE), random(256, 4096)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # cycles: another stream would read the zeros
            x.copy_(values)
            y = layer_norm(x, (4096,))
        stream.synchronize()
        self.expect_close(y, F.layer_norm(x.double(), (4096,)))

    def test_current_device_stays(self):
        if torch.cuda.device_count() < 2:
            self.skipTest("needs two GPUs")
        for current, device in ((0, 1), (1, 0), (1, 1)):
            with torch.cuda.device(current):
                x = random(4, 64).to(device)
                y = layer_norm(x, (64,))
                self.assertEqual((y.device.index, torch.cuda.current_device()), (device, current))
                self.expect_equal(y, layer_norm(x.to("cuda:0"), (64,)).to(device))


class Mistakes(Case):
    def expect_refused(self, kind, text, call):
        with self.assertRaisesRegex(kind, text):
            call()

    def test_are_refused_with_what_was_expected(self):
        x, weight, half = random(4, 64), random(64), random(64, dtype=torch.float16)
        refused = self.expect_refused
        refused(ValueError, r"x is on cpu, expected a CUDA device", lambda: layer_norm(x.cpu(), (64,)))
        refused(TypeError, r"x has dtype torch.float64", lambda: layer_norm(x.double(), (64,)))
        refused(TypeError, r"x has dtype torch.int64", lambda: rms_norm(x.long(), (64,)))
        refused(ValueError, r"x has shape \(4, 64\), expected \[..., \*\(32,\)\]", lambda: layer_norm(x, (32,)))
        refused(ValueError, r"x has shape \(4, 64\)", lambda: layer_norm(x, (1, 4, 64)))
        refused(ValueError, r"weight has shape \(63,\), expected \(64,\)", lambda: layer_norm(x, 64, weight[1:]))
        refused(ValueError, r"weight is on cpu, expected cuda", lambda: layer_norm(x, 64, weight.cpu()))
        refused(TypeError, r"weight has dtype torch.float16, expected torch.float32",
                lambda: layer_norm(x, 64, half))
        refused(TypeError, r"bias has dtype torch.float32, expected torch.float16 \(the dtype of weight\)",
                lambda: layer_norm(x.half(), 64, half, weight))
        refused(ValueError, r"residual has shape \(64,\), expected \(4, 64\)", lambda: fused_add_layer_norm(x[0], x))
        refused(TypeError, r"residual has dtype torch.bfloat16", lambda: fused_add_layer_norm(x.bfloat16(), x))
        refused(ValueError, r"p is 1.0, expected a probability in \[0, 1\)",
                lambda: fused_add_layer_norm(x, x, p=1.0))
        refused(RuntimeError, r"eps is -1, expected 0 or a positive number", lambda: layer_norm(x, 64, eps=-1.0))
        refused(RuntimeError, r"eps is nan", lambda: rms_norm(x, 64, eps=float("nan")))

    def test_a_second_derivative_is_refused(self):
        x = random(4, 64).requires_grad_()
        (dx,) = torch.autograd.grad(layer_norm(x, 64).square().sum(), x, create_graph=True)
        self.expect_refused(RuntimeError, "autograd", lambda: torch.autograd.grad(dx.sum(), x))


def setUpModule():
    if not torch.cuda.is_available():
        if os.environ.get("LAMINA_REQUIRE_CUDA"):
            raise RuntimeError("test_lamina_norm: there is no CUDA device, expected one (LAMINA_REQUIRE_CUDA is set)")
        raise unittest.SkipTest("no CUDA device")


if __name__ == "__main__":
    unittest.main()
