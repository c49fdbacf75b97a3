// SPDX-License-Identifier: MIT
// A case of attention for tests on CUDA: its operands, its implementations, what the CPU kernel
// makes of it in f64, and how far from that a result may be. The allowed error of each element is
// the sum of what it adds up: every product with a probability may be off by the rounding of that
// probability to the dtype, plus kArithmetic for the f32 sums and exponentials; the result is
// rounded once more.
#pragma once

#include "core/kernels/attention.h"
#include "core/launch.h"
#include "cuda_kernels/attention_composed.h"
#include "cuda_kernels/attention_fused.h"
#include "cuda_kernels/attention_hopper.h"
#include "tests/kernels/cuda_run.h"
#include "tests/support/cuda_case.h"
#include "tests/support/keep_factor.h"

#include <cmath>
#include <ostream>
#include <variant>
#include <vector>

namespace lamina::testing {

using kernels::AttentionShape;

inline constexpr double kArithmetic = 0x1p-16;  // relative: scores of f32 sums, through exp

enum class Implementation { composed, fused, hopper };

inline const char* name_of(Implementation implementation) {
  switch (implementation) {
    case Implementation::composed:
      return "composed";
    case Implementation::fused:
      return "fused";
    default:
      return "hopper";
  }
}

struct AttentionCase {
  Implementation implementation;
  DType dtype;
  std::int64_t batch, time, heads, head_size;
  bool causal;
  float drop_p;
  Layout layout{};  // of qkv, out, dout and dqkv

  AttentionShape shape() const {
    return {.batch = batch,
            .time = time,
            .heads = heads,
            .head_size = head_size,
            .scale = 1.0F / std::sqrt(static_cast<float>(head_size)),
            .causal = causal,
            .drop_p = drop_p,
            .key = {.seed = 1234, .offset = 5}};
  }

  std::int64_t rows() const { return batch * time; }

  std::int64_t cols() const { return heads * head_size; }
};

inline std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  out << name_of(c.implementation) << "_" << c.dtype << "_B" << c.batch << "_T" << c.time << "_H"
      << c.heads << "_d" << c.head_size;
  if (c.causal) out << "_causal";
  if (c.drop_p > 0.0F) out << "_dropout";
  if (c.layout.shift != 0) out << "_shift" << c.layout.shift;
  if (c.layout.pad != 0) out << "_pad" << c.layout.pad;
  return out;
}

struct Forward {
  Tensor qkv, out, lse;
};

struct Backward {
  Tensor dout, dqkv;
};

inline kernels::Attention forward_args(const AttentionShape& shape, const Forward& on) {
  return {.shape = shape, .qkv = rows(on.qkv), .out = rows(on.out), .lse = flat(on.lse)};
}

inline kernels::AttentionBackward backward_args(const AttentionShape& shape, const Forward& forward,
                                                const Backward& on, GradWrite write) {
  return {.shape = shape,
          .qkv = rows(forward.qkv),
          .out = rows(forward.out),
          .lse = flat(forward.lse),
          .dout = rows(on.dout),
          .dqkv = rows(on.dqkv),
          .write = write};
}

/// Runs the contract's kernel on the device of `on`.
template <class Args>
void launch_contract(Args args, const Tensor& on) {
  const Stream stream = stream_of(on);
  const Tensor workspace = empty({workspace_bytes_of(stream, args)}, DType::u8, on.device());
  args.workspace = flat(workspace);
  launch(stream, args);
  synchronize(stream);
}

inline std::int64_t workspace_of(const AttentionCase& c, const kernels::Attention& /*args*/) {
  switch (c.implementation) {
    case Implementation::composed:
      return kernels::attention_composed_workspace(c.shape(), false);
    case Implementation::fused:
      return kernels::attention_fused_workspace(c.shape(), false);
    default:
      return 0;
  }
}

inline std::int64_t workspace_of(const AttentionCase& c, const kernels::AttentionBackward& args) {
  switch (c.implementation) {
    case Implementation::composed:
      return kernels::attention_composed_workspace(c.shape(), true);
    case Implementation::fused:
      return kernels::attention_fused_workspace(c.shape(), true);
    default:
      return kernels::attention_hopper_workspace(args);
  }
}

inline void launch_implementation(const AttentionCase& c, kernels::Attention args) {
  const Tensor workspace = empty({workspace_of(c, args)}, DType::u8, kCuda);
  args.workspace = flat(workspace);
  const auto stream = std::get<CudaStream>(current_stream(kCuda));
  switch (c.implementation) {
    case Implementation::composed:
      kernels::attention_composed(args, stream);
      break;
    case Implementation::fused:
      kernels::attention_fused(args, stream);
      break;
    case Implementation::hopper:
      kernels::attention_hopper(args, stream);
      break;
  }
  synchronize(kCuda);
}

inline void launch_implementation(const AttentionCase& c, kernels::AttentionBackward args) {
  const Tensor workspace = empty({workspace_of(c, args)}, DType::u8, kCuda);
  args.workspace = flat(workspace);
  const auto stream = std::get<CudaStream>(current_stream(kCuda));
  switch (c.implementation) {
    case Implementation::composed:
      kernels::attention_composed_backward(args, stream);
      break;
    case Implementation::fused:
      kernels::attention_fused_backward(args, stream);
      break;
    case Implementation::hopper:
      kernels::attention_hopper_backward(args, stream);
      break;
  }
  synchronize(kCuda);
}

/// The operands of a case on the device. out and lse of the backward pass are inputs: they come
/// from the CPU, rounded as a forward pass would have stored them.
struct AttentionOperands {
  CudaTensor qkv, out, lse, dout;

  explicit AttentionOperands(const AttentionCase& c) {
    Generator generator(11);
    qkv = CudaTensor::normal({c.rows(), 3 * c.cols()}, c.dtype, generator, 1.0, 0.0, c.layout);
    dout = CudaTensor::normal({c.rows(), c.cols()}, c.dtype, generator, 1.0, 0.0, c.layout);
    out = CudaTensor::poisoned({c.rows(), c.cols()}, c.dtype, c.layout);
    lse = CudaTensor::poisoned({c.batch * c.heads * c.time}, DType::f32);
  }

  Forward forward() const {
    return {.qkv = qkv.tensor(), .out = out.tensor(), .lse = lse.tensor()};
  }
};

/// What the CPU makes of the same numbers in f64.
inline Forward cpu_forward(const AttentionCase& c, const Tensor& qkv) {
  Forward on{.qkv = qkv,
             .out = zeros({c.rows(), c.cols()}, DType::f64),
             .lse = zeros({c.batch * c.heads * c.time}, DType::f64)};
  launch_contract(forward_args(c.shape(), on), on.qkv);
  return on;
}

/// Sums of magnitudes, straight from the definition: one loop nest per head.
class Magnitudes {
 public:
  Magnitudes(const AttentionCase& c, const Forward& cpu)
      : case_(c),
        shape_(c.shape()),
        qkv_(cpu.qkv.to_vector<double>()),
        out_(cpu.out.to_vector<double>()),
        lse_(cpu.lse.to_vector<double>()) {}

  /// sum over keys of the dropped-out probability times |v|, per element of out.
  std::vector<double> forward() const {
    std::vector<double> sums(out_.size());
    for_each_pair([&](std::int64_t head, std::int64_t query, std::int64_t key) {
      const double p = probability(head, query, key) * factor(head, query, key);
      for (std::int64_t e = 0; e < shape_.head_size; ++e) {
        sums[out_at(head, query, e)] += p * std::abs(qkv_[qkv_at(head, key, 2, e)]);
      }
    });
    return sums;
  }

  /// The largest error of each element of dqkv for a dtype that rounds by `rounding` (relative).
  std::vector<double> backward_errors(const std::vector<double>& dout, double rounding) const {
    std::vector<double> errors(qkv_.size());
    for_each_pair([&](std::int64_t head, std::int64_t query, std::int64_t key) {
      const double p = probability(head, query, key);
      const double kept = factor(head, query, key);
      double dprob = 0.0;
      double delta = 0.0;
      double dprob_terms = 0.0;
      double delta_terms = 0.0;
      for (std::int64_t e = 0; e < shape_.head_size; ++e) {
        const double gradient = dout[out_at(head, query, e)];
        const double with_value = gradient * qkv_[qkv_at(head, key, 2, e)];
        const double with_out = gradient * out_[out_at(head, query, e)];
        dprob += kept * with_value;
        dprob_terms += kept * std::abs(with_value);
        delta += with_out;
        delta_terms += std::abs(with_out);
      }
      // dscore = scale * p * (dprob - delta), where delta is made of an out that was rounded.
      const double dscore_error =
          static_cast<double>(shape_.scale) * p *
          ((rounding + kArithmetic) * std::abs(dprob - delta) + rounding * delta_terms +
           kArithmetic * (dprob_terms + delta_terms));
      const double prob_error = p * kept * (rounding + kArithmetic);
      for (std::int64_t e = 0; e < shape_.head_size; ++e) {
        errors[qkv_at(head, query, 0, e)] += dscore_error * std::abs(qkv_[qkv_at(head, key, 1, e)]);
        errors[qkv_at(head, key, 1, e)] += dscore_error * std::abs(qkv_[qkv_at(head, query, 0, e)]);
        errors[qkv_at(head, key, 2, e)] += prob_error * std::abs(dout[out_at(head, query, e)]);
      }
    });
    return errors;
  }

 private:
  template <class F>
  void for_each_pair(F&& f) const {
    for (std::int64_t head = 0; head < shape_.batch * shape_.heads; ++head) {
      for (std::int64_t query = 0; query < shape_.time; ++query) {
        const std::int64_t seen = shape_.causal ? query + 1 : shape_.time;
        for (std::int64_t key = 0; key < seen; ++key)
          f(head, query, key);
      }
    }
  }

  std::size_t qkv_at(std::int64_t head, std::int64_t t, std::int64_t part, std::int64_t e) const {
    const std::int64_t row = head / shape_.heads * shape_.time + t;
    return static_cast<std::size_t>(
        ((row * 3 + part) * shape_.heads + head % shape_.heads) * shape_.head_size + e);
  }

  std::size_t out_at(std::int64_t head, std::int64_t t, std::int64_t e) const {
    const std::int64_t row = head / shape_.heads * shape_.time + t;
    return static_cast<std::size_t>((row * shape_.heads + head % shape_.heads) * shape_.head_size +
                                    e);
  }

  double probability(std::int64_t head, std::int64_t query, std::int64_t key) const {
    double score = 0.0;
    for (std::int64_t e = 0; e < shape_.head_size; ++e) {
      score += qkv_[qkv_at(head, query, 0, e)] * qkv_[qkv_at(head, key, 1, e)];
    }
    return std::exp(static_cast<double>(shape_.scale) * score -
                    lse_[static_cast<std::size_t>(head * shape_.time + query)]);
  }

  double factor(std::int64_t head, std::int64_t query, std::int64_t key) const {
    if (shape_.drop_p == 0.0F) return 1.0;
    return keep_factor(shape_.key, shape_.drop_p,
                       kernels::attention_mask_element(head, query, key, shape_.time));
  }

  AttentionCase case_;
  AttentionShape shape_;
  std::vector<double> qkv_, out_, lse_;
};

}  // namespace lamina::testing
