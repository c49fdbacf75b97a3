// SPDX-License-Identifier: MIT
// Every differentiable operation of Lamina. Ops take and return Var; a Tensor converts to a
// constant. All operands of a call live on one device and, unless said otherwise, share one float
// dtype: f32 or f64 on the CPU; f32, f16 or bf16 on CUDA. Mistakes throw ShapeError, DTypeError or
// DeviceError with the name of the op. "[..., cols]" is any number of leading dimensions. Operands
// may be views: rows with a pitch are taken as they are, other strides are copied first.
#pragma once

#include "autograd/record.h"
#include "autograd/var.h"
#include "core/random.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace lamina {

/// Whether a result waits for the backward passes of the linear() and linear_gelu() that read it,
/// or is made again then, with the same bits, from what its own backward pass needs anyway: one
/// more run of its kernel, and its memory is free until then. A result that other ops read waits
/// anyway.
enum class Output : std::uint8_t { kept, recomputed };

// ---- element by element
// --------------------------------------------------------------------------

/// a + b. b has the shape of a, or that of its last dimensions (then it repeats over the others).
Var add(const Var& a, const Var& b);

/// a * b, element by element; shapes as in add().
Var mul(const Var& a, const Var& b);

/// factor * x.
Var scale(const Var& x, double factor);

/// x rounded to another float dtype; x itself if it has that. The gradient is rounded back.
Var convert(const Var& x, DType dtype);

Var relu(const Var& x);

/// x * sigmoid(x).
Var silu(const Var& x);

enum class GeluForm : std::uint8_t { tanh, erf };

/// Gaussian error linear unit, by the tanh approximation or exactly.
/// Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2.
Var gelu(const Var& x, GeluForm form = GeluForm::tanh, Output output = Output::kept);

/// Zeroes each element with probability p in [0, 1), rounded to a multiple of 2^-16 below 1, and
/// scales the rest by 1 / (1 - that); returns x itself for p = 0. The mask is made again in the
/// backward pass, not stored.
Var dropout(const Var& x, double p, Generator& generator);

inline Var operator+(const Var& a, const Var& b) {
  return add(a, b);
}

inline Var operator*(const Var& a, const Var& b) {
  return mul(a, b);
}

inline Var operator*(const Var& x, double factor) {
  return scale(x, factor);
}

inline Var operator*(double factor, const Var& x) {
  return scale(x, factor);
}

// ---- normalisation
// -------------------------------------------------------------------------------

/// Softmax over the last dimension.
Var softmax(const Var& x);

/// Softmax of [..., n, n] scores in which row i uses columns 0 ... i only; the others become 0.
Var causal_softmax(const Var& x);

/// Normalises each row of x to zero mean and unit variance, then scales and shifts.
/// x: [..., cols]. The result has the dtype of x, or `dtype`, which may be narrower: f16 or bf16
/// for an f32 residual stream, f32 for an f64 one on the CPU. weight, bias: [cols] or empty, of the
/// dtype of the result or f32. Saves mean and rstd (8 bytes per row) besides x when a gradient will
/// be asked for. Ba et al. 2016, https://arxiv.org/abs/1607.06450, eq. 3 and 4.
Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps = 1e-5,
               std::optional<DType> dtype = {}, Output output = Output::kept);

/// x / sqrt(mean(x^2) + eps) * weight over rows: neither centred nor shifted. Dtypes as in
/// layer_norm(); saves rstd (4 bytes per row) besides x.
/// Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4.
Var rms_norm(const Var& x, const Var& weight, double eps = 1e-5, std::optional<DType> dtype = {},
             Output output = Output::kept);

struct AddNormResult {
  Var sum;         // residual + dropout(x), dtype of residual
  Var normalized;  // the norm of sum, dtype of x
};

/// The residual add, and dropout of x before it if p > 0 (generator is then required), fused with
/// the norm that follows: one kernel in each direction. residual, x: [..., cols]. The residual
/// has the dtype of x or a wider one: f32 beside f16 or bf16; f64 beside f32 on the CPU. The
/// moments are those of the sum in its own dtype. The gradient of x carries its column sum, which a
/// preceding linear() takes as its bias gradient. `output` is about `normalized`, which is kept
/// anyway where residual or x is a view of a part.
AddNormResult add_layer_norm(const Var& residual, const Var& x, const Var& weight, const Var& bias,
                             double eps = 1e-5, double p = 0.0, Generator* generator = nullptr,
                             Output output = Output::kept);
AddNormResult add_rms_norm(const Var& residual, const Var& x, const Var& weight, double eps = 1e-5,
                           double p = 0.0, Generator* generator = nullptr,
                           Output output = Output::kept);

// ---- products
// ------------------------------------------------------------------------------------

/// a: [..., m, k]. b: [k, n], or [..., k, n] with the leading dimensions of a. Result [..., m, n].
Var matmul(const Var& a, const Var& b);

/// x weight^T + bias. x: [..., in]; weight: [out, in]; bias: [out] or empty. Result [..., out].
Var linear(const Var& x, const Var& weight, const Var& bias = {});

/// gelu(linear(x, weight, bias), GeluForm::tanh) with one pass after the product. With
/// Output::recomputed the GELU is that of the rounded pre-activation and never fused by BLAS: on
/// CUDA the result may round otherwise than with Output::kept (see kernels::Gemm).
Var linear_gelu(const Var& x, const Var& weight, const Var& bias = {},
                Output output = Output::kept);

/// f32 products on CUDA may use TF32 (10 mantissa bits) while one of these lives in this thread.
class AllowTf32 {
 public:
  explicit AllowTf32(bool allow = true);
  ~AllowTf32();
  AllowTf32(const AllowTf32&) = delete;
  AllowTf32& operator=(const AllowTf32&) = delete;

 private:
  bool previous_;
};

// ---- transformer
// ---------------------------------------------------------------------------------

/// Rows of `weight` by token. tokens: any shape, i32, in [0, rows of weight). weight: [rows, cols].
/// Result: shape of tokens + [cols].
Var embedding(const Tensor& tokens, const Var& weight);

struct AttentionOptions {
  bool causal = true;
  double drop_p = 0.0;  // of the probabilities; needs a generator when > 0
  Generator* generator = nullptr;
  double scale = 0.0;  // of the scores; 0 means 1 / sqrt(head_size)
};

/// Multi-head attention. qkv: [batch, time, 3 * heads * head_size], the queries of all heads first,
/// then the keys, then the values. Result: [batch, time, heads * head_size].
/// Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.
Var attention(const Var& qkv, int heads, const AttentionOptions& options = {});

/// The same, causal, for the next position of each sequence, under NoGrad: to write a text token by
/// token. qkv: [batch, 1, 3 * heads * head_size]. cache: [batch, capacity, 2 * heads * head_size],
/// contiguous, of the dtype of qkv: keys and values of the positions before it; its own are put
/// there. position: [1], i32, on the device: how many are there, less than capacity (not checked,
/// the device knows it). Result: [batch, 1, heads * head_size].
Tensor cached_attention(const Tensor& qkv, int heads, const Tensor& cache, const Tensor& position);

struct CrossEntropyOptions {
  std::int32_t ignore_index = -100;  // targets with this value do not count
  std::int64_t classes = 0;          // columns from here on are padding; 0 means all are classes
};

/// Mean negative log-likelihood of `targets` under softmax(logits), over the targets that count.
/// logits: [..., classes]; targets: i32, the leading dimensions of logits. Result: [], f32 (f64 for
/// f64). The gradient takes the memory of the logits when nobody else holds them: in the backward
/// pass, which then reads them a second time, or for a temporary or std::move(logits) already in
/// the forward pass, in one read and one write (not in f16). It is rounded to the dtype of the
/// logits there, and again in the backward pass if the gradient of the result is not 1.
Var cross_entropy(const Var& logits, const Tensor& targets,
                  const CrossEntropyOptions& options = {});
Var cross_entropy(Var&& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

struct LinearCrossEntropyOptions {
  std::int32_t ignore_index = -100;  // as CrossEntropyOptions
  std::int64_t classes = 0;
  std::int64_t rows = 8192;  // of logits that exist at a time
};

/// cross_entropy(linear(x, weight), targets) whose logits exist for `rows` rows at a time, so that
/// memory does not grow with them. The products of the backward pass, too, are made here, which
/// leaves their results to wait for it: a gradient the size of x, and one of weight in f32 (f64 for
/// f64). The gradient of x is rounded once more than that of the two ops: when it has been
/// multiplied by the gradient of the result over the number of targets that count.
/// x: [..., in]; weight: [classes, in]; targets: i32, the leading dimensions of x. Result: [], f32
/// (f64 for f64).
Var linear_cross_entropy(const Var& x, const Var& weight, const Tensor& targets,
                         const LinearCrossEntropyOptions& options = {});

// ---- reductions and views
// ------------------------------------------------------------------------

/// Sum and mean of all elements, in f32 (f64 for f64). Result: [], dtype of x.
Var sum(const Var& x);
Var mean(const Var& x);

/// The same data under another shape; one extent may be -1. x must be contiguous. A view.
Var reshape(const Var& x, const std::vector<std::int64_t>& extents);

/// Positions [begin, end) of dimension `dim`. A view.
Var slice(const Var& x, int dim, std::int64_t begin, std::int64_t end);

/// `parts` equal slices of dimension `dim`. Views.
std::vector<Var> split(const Var& x, int parts, int dim = -1);

}  // namespace lamina
