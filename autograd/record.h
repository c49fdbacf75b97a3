// SPDX-License-Identifier: MIT
// record(): what an op calls to become differentiable. It is the only constructor of differentiable
// values besides parameters. The backward function captures Tensors, never Vars, and lists its
// captures one by one: they are the memory that stays until the backward pass has run.
#pragma once

#include "autograd/var.h"
#include "core/profile_scope.h"
#include "core/view.h"

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace lamina {

/// Where to write the gradient of an input, and how. dst is contiguous; an empty handle when write
/// is skip.
struct GradSlot {
  Tensor dst;
  GradWrite write = GradWrite::skip;
};

/// The gradients of a node's inputs, to be filled in by its backward function.
class Grads {
 public:
  Grads(Node& node, std::vector<Tensor> column_sums)
      : node_(node), column_sums_(std::move(column_sums)) {}

  /// Whether input i needs a gradient at all.
  bool wants(int i) const;

  /// The dtype of the gradient of input i, which wants one: f32 for a 16-bit parameter.
  DType dtype(int i) const;

  /// Whether the column sum of the gradient of input i is of use: the op that made it asked for it,
  /// and this is its first gradient.
  bool wants_column_sum(int i) const;

  /// A buffer with the shape of input i: nothing, a fresh one to overwrite, or one to add to. An
  /// existing gradient that other handles share is copied first, so that theirs stays as it is. The
  /// dtype is that of the gradient: f32 for a 16-bit parameter. Once per input.
  GradSlot slot(int i);

  /// Hands over a finished gradient: shared, not copied, when it is the first one of an input that
  /// is not a parameter and has its dtype; else copied or added. With its column sum if that is
  /// known: [last dimension], f32 (f64 for f64). Throws Error for a gradient of another shape, of
  /// no float dtype or on another device.
  void give(int i, const Tensor& grad, const Tensor& column_sum = {});

  /// The column sum that came with the gradient of output i, or an empty handle.
  const Tensor& column_sum(int i) const;

  /// Called by the engine after the backward function. A value that is an input twice has one slot
  /// that a kernel may still be about to write, so its further gradients wait here.
  void add_postponed();

 private:
  struct Postponed {
    GradState* state;
    Tensor grad;
  };

  GradState* state(int i) const;
  bool is_open(const GradState* state) const;

  Node& node_;
  std::vector<Tensor> column_sums_;
  std::vector<GradState*> open_;  // whose slot was handed out
  std::vector<Postponed> postponed_;
};

/// d[i] is the gradient of output i, contiguous; an empty handle when none reached it (only
/// possible for nodes with several outputs).
using BackwardFunction = std::function<void(std::span<const Tensor> d, Grads& grads)>;

/// Binds `outputs` to `inputs` through `backward`. Returns plain constants, and drops `backward`,
/// when no input requires a gradient or gradients are off.
std::vector<Var> record(std::string_view name, std::vector<Var> inputs, std::vector<Tensor> outputs,
                        BackwardFunction backward);

/// Says that the backward function of the op that made `output` uses the column sum of its
/// gradient.
void ask_for_column_sum(const Var& output);

/// Differentiates `loss`, one element, with respect to every parameter it depends on; gradients are
/// added to those present. Iterative; every node's captures are freed as soon as it has run, so a
/// second call on the same graph throws Error. When an op throws, the parameters of the ops that
/// had run keep their gradients: call zero_grad() before going on.
void backward(const Var& loss);

/// The same from a value of any shape, with its gradient given: of a loss, what scales it. A
/// gradient of another shape, of no float dtype or on another device is refused with an Error.
void backward(const Var& value, const Tensor& grad);

/// Gradients are not recorded in this thread while one of these lives.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

/// Whether record() records in this thread.
bool grad_enabled();

/// Whether record() would record an op of these inputs, in this thread and now.
bool will_record(std::initializer_list<const Var*> inputs);
bool will_record(std::span<const Var> inputs);

/// One recorded op.
struct Node {
  std::string_view name;       // static storage
  std::string_view scope;      // of the layer that recorded it
  std::uint64_t sequence = 0;  // larger than that of the nodes that made the inputs
  std::vector<std::shared_ptr<GradState>> inputs;  // null for constants
  std::vector<std::weak_ptr<GradState>> outputs;
  std::vector<std::shared_ptr<GradState>> reached;  // outputs with a gradient: this node is queued
  BackwardFunction backward;                        // empty once it has run

  Node() = default;
  ~Node();  // frees long chains without recursion
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
};

}  // namespace lamina
