// SPDX-License-Identifier: MIT
// The engine: record() makes nodes, backward() runs them, later ones first, each as soon as all
// gradients of its outputs have arrived. Nothing here recurses over the graph, so its depth is
// limited by memory only.
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "autograd/recompute.h"
#include "autograd/record.h"
#include "autograd/watch.h"
#include "core/check.h"
#include "core/expect.h"
#include "core/kernels/elementwise.h"
#include "core/launch.h"
#include "core/random.h"

#include <algorithm>
#include <queue>
#include <utility>

namespace lamina {

/// Lets record() bind a value to its gradient state.
class Recorder {
 public:
  static Var bind(Tensor value, std::shared_ptr<GradState> state) {
    Var var(std::move(value));
    var.state_ = std::move(state);
    return var;
  }
};

namespace {

thread_local bool grad_mode = true;
thread_local std::uint64_t last_sequence = 0;

/// Where the gradient of a state is to be written. What comes of it may fail, so the caller notes
/// that there is one.
GradSlot open_slot(GradState& state) {
  state.column_sum = {};
  if (!state.has_grad) {
    if (!state.grad) state.grad = empty(state.shape, state.dtype, state.device);
    return {state.grad, GradWrite::overwrite};
  }
  if (!state.is_parameter && !is_sole_owner(state.grad)) state.grad = state.grad.clone();
  return {state.grad, GradWrite::accumulate};
}

/// Throws unless `grad` can become, or be added to, the gradient of `state`.
void expect_gradient(const GradState& state, const Tensor& grad) {
  expect_shape("backward", "gradient", grad, state.shape, "the shape of the value");
  if (grad.device() != state.device) {
    throw DeviceError(cat("backward: gradient is on ", grad.device(), ", expected ", state.device,
                          " (the device of the value); move it with .to(device)"));
  }
  if (grad.dtype() != state.dtype) expect_float("backward", "gradient", grad);
}

/// Parameters keep their buffer, which the optimizer knows; other states take the tensor itself.
void add_to(GradState& state, const Tensor& grad, const Tensor& column_sum) {
  expect_gradient(state, grad);
  if (state.is_parameter || state.has_grad || grad.dtype() != state.dtype) {
    const GradSlot slot = open_slot(state);
    launch(
        stream_of(slot.dst),
        kernels::Scale{
            .x = rows(grad.contiguous()), .y = rows(slot.dst), .factor = 1.0, .write = slot.write});
  } else {
    state.grad = grad.contiguous();
    state.column_sum = column_sum;
  }
  state.has_grad = true;
}

/// The gradient side of an output of `node`.
std::shared_ptr<GradState> make_state(const Tensor& output, const std::shared_ptr<Node>& node) {
  auto state = std::make_shared<GradState>();
  state->shape = output.shape();
  state->dtype = output.dtype();
  state->device = output.device();
  state->producer = node;
  node->outputs.push_back(state);
  return state;
}

bool contains(const std::vector<std::shared_ptr<GradState>>& states,
              const std::shared_ptr<GradState>& state) {
  return std::find(states.begin(), states.end(), state) != states.end();
}

/// One run of backward(), over nodes from sequence number `oldest` on.
class Pass {
 public:
  explicit Pass(std::uint64_t oldest = 0) : oldest_(oldest) {}

  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  /// After an error, forgets what the failed node may have written in part, and the gradients that
  /// no node has consumed.
  ~Pass() {
    if (running_) {
      for (const auto& state : running_->inputs) {
        if (state) forget(*state);
      }
    }
    for (; !queue_.empty(); queue_.pop()) {
      for (const auto& state : std::exchange(queue_.top()->reached, {}))
        forget(*state);
    }
  }

  /// Notes that a gradient arrived at `state`.
  void reach(const std::shared_ptr<GradState>& state) {
    if (!state->has_grad) return;
    if (state->is_parameter) {
      if (state->on_ready && !contains(incomplete_, state)) incomplete_.push_back(state);
      return;
    }
    if (state->producer->sequence < oldest_) {
      forget(*state);
      throw Error(
          "recompute: the function reads a value with a gradient that is none of its inputs, "
          "expected only those and parameters; make it an input");
    }
    auto& reached = state->producer->reached;
    if (reached.empty()) queue_.push(state->producer);
    if (!contains(reached, state)) reached.push_back(state);
  }

  void run() {
    while (!queue_.empty()) {
      if (!queue_.top()->backward) {
        throw Error(cat("backward: the graph behind ", queue_.top()->name,
                        " was freed by an earlier backward pass, expected one pass per graph; run "
                        "the forward pass again"));
      }
      running_ = queue_.top();
      queue_.pop();
      run_node(*running_);
      running_ = nullptr;
    }
    // Parameters that nodes outside this graph read as well are complete only now.
    for (const auto& state : std::exchange(incomplete_, {}))
      state->on_ready(state->grad);
  }

 private:
  struct Earlier {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const {
      return a->sequence < b->sequence;
    }
  };

  /// A parameter keeps its buffer.
  static void forget(GradState& state) {
    if (!state.is_parameter) state.grad = {};
    state.column_sum = {};
    state.has_grad = false;
  }

  void run_node(Node& node) {
    const ProfileScope scope(node.scope, Direction::backward);
    std::vector<Tensor> d, column_sums;
    for (const auto& output : node.outputs) {
      const auto state = output.lock();
      if (state) state->make_value = nullptr;  // all its readers have run
      const bool has_grad = state && std::exchange(state->has_grad, false);
      d.push_back(has_grad ? std::exchange(state->grad, {}) : Tensor());
      column_sums.push_back(has_grad ? std::exchange(state->column_sum, {}) : Tensor());
    }
    node.reached.clear();
    {
      const BackwardFunction function = std::exchange(node.backward, nullptr);
      Grads grads(node, std::move(column_sums));
      function(d, grads);
      grads.add_postponed();
    }
    tell_backward(node.name, node.scope, node.inputs);
    const auto inputs = std::exchange(node.inputs, {});
    for (const auto& state : inputs) {
      if (state) --state->pending_uses;
    }
    for (const auto& state : inputs) {
      if (state) reach(state);
    }
    for (const auto& state : inputs) {
      if (!state || state->pending_uses > 0 || std::erase(incomplete_, state) == 0) continue;
      state->on_ready(state->grad);
    }
  }

  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Earlier> queue_;
  std::uint64_t oldest_;
  std::shared_ptr<Node> running_;                       // what run() is at
  std::vector<std::shared_ptr<GradState>> incomplete_;  // parameters whose hook was not called yet
};

}  // namespace

GradState* Grads::state(int i) const {
  LAMINA_CHECK(i >= 0 && static_cast<std::size_t>(i) < node_.inputs.size(), node_.name,
               ": the gradient of input ", i, " is asked for, expected an input below ",
               node_.inputs.size());
  return node_.inputs[static_cast<std::size_t>(i)].get();
}

bool Grads::is_open(const GradState* state) const {
  return std::find(open_.begin(), open_.end(), state) != open_.end();
}

bool Grads::wants(int i) const {
  return state(i) != nullptr;
}

DType Grads::dtype(int i) const {
  LAMINA_CHECK(wants(i), node_.name, ": the dtype of the gradient of input ", i,
               " is asked for, expected one that wants a gradient");
  return state(i)->dtype;
}

const Tensor& Grads::column_sum(int i) const {
  LAMINA_CHECK(i >= 0 && static_cast<std::size_t>(i) < column_sums_.size(), node_.name,
               ": the column sum of output ", i, " is asked for, expected an output below ",
               column_sums_.size());
  return column_sums_[static_cast<std::size_t>(i)];
}

bool Grads::wants_column_sum(int i) const {
  return wants(i) && state(i)->wants_column_sum && !state(i)->has_grad;
}

GradSlot Grads::slot(int i) {
  GradState* const to = state(i);
  if (!to) return {};
  if (is_open(to)) {
    postponed_.push_back({to, empty(to->shape, to->dtype, to->device)});
    return {postponed_.back().grad, GradWrite::overwrite};
  }
  const GradSlot slot = open_slot(*to);
  to->has_grad = true;
  open_.push_back(to);
  return slot;
}

void Grads::give(int i, const Tensor& grad, const Tensor& column_sum) {
  GradState* const to = state(i);
  if (!to) return;
  if (is_open(to)) {
    postponed_.push_back({to, grad});
  } else {
    add_to(*to, grad, column_sum);
  }
}

void Grads::add_postponed() {
  for (const Postponed& entry : postponed_)
    add_to(*entry.state, entry.grad, {});
  postponed_.clear();
}

std::vector<Var> record(std::string_view name, std::vector<Var> inputs, std::vector<Tensor> outputs,
                        BackwardFunction backward) {
  tell_forward(name, inputs, outputs);
  std::vector<Var> result;
  if (!will_record(inputs)) {
    for (Tensor& output : outputs)
      result.emplace_back(std::move(output));
    return result;
  }
  LAMINA_CHECK(backward, name, ": the backward function is empty");
  auto node = std::make_shared<Node>();
  node->name = name;
  node->scope = current_scope();
  for (const Var& input : inputs) {
    const auto& state = input.state();
    if (state) ++state->pending_uses;
    // Inputs that another thread recorded come before this node, too.
    if (state && state->producer)
      last_sequence = std::max(last_sequence, state->producer->sequence);
    node->inputs.push_back(state);
  }
  node->sequence = ++last_sequence;
  node->backward = std::move(backward);
  for (Tensor& output : outputs) {
    auto state = make_state(output, node);
    result.push_back(Recorder::bind(std::move(output), std::move(state)));
  }
  return result;
}

void ask_for_column_sum(const Var& output) {
  if (output.requires_grad()) output.state()->wants_column_sum = true;
}

void backward(const Var& loss) {
  expect_defined("backward", "loss", loss.value());
  if (loss.value().elements() != 1) {
    throw ShapeError(cat("backward: loss has shape ", loss.shape(),
                         ", expected one element; reduce it with sum() or mean(), or give its "
                         "gradient"));
  }
  backward(loss, full(loss.shape(), 1.0, loss.dtype(), loss.device()));
}

void backward(const Var& value, const Tensor& grad) {
  const std::shared_ptr<GradState>& state = value.state();
  if (!state) {
    throw Error(
        "backward: the value does not require a gradient, expected one that depends on a parameter "
        "(its inputs are constants, or were computed under NoGrad)");
  }
  Pass pass;
  add_to(*state, grad, {});
  pass.reach(state);
  pass.run();
}

namespace {

std::vector<Var> call(const RecomputeFunction& f, const std::vector<Var>& inputs) {
  std::vector<Var> outputs = f(inputs);
  for (const Var& output : outputs)
    expect_defined("recompute", "an output", output.value());
  return outputs;
}

/// Handles of `inputs` for a graph of their own, whose backward pass ends in `grads`.
std::vector<Var> boundary(const std::vector<Tensor>& values, Grads& grads) {
  auto node = std::make_shared<Node>();
  node->name = "recompute";
  node->scope = current_scope();
  node->sequence = ++last_sequence;
  std::vector<int> ends;  // input of each output of the node
  std::vector<Var> inputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int end = static_cast<int>(i);
    if (!grads.wants(end)) {
      inputs.emplace_back(values[i]);
      continue;
    }
    auto state = make_state(values[i], node);
    state->dtype = grads.dtype(end);
    state->wants_column_sum = grads.wants_column_sum(end);
    inputs.push_back(Recorder::bind(values[i], std::move(state)));
    ends.push_back(end);
  }
  node->backward = [ends, &grads](std::span<const Tensor> d, Grads& inner) {
    for (std::size_t k = 0; k < ends.size(); ++k) {
      if (d[k]) grads.give(ends[k], d[k], inner.column_sum(static_cast<int>(k)));
    }
  };
  return inputs;
}

/// Until destruction gradients are recorded, the default generator stands where `then` does, and
/// TF32 is allowed or not.
class AsRecorded {
 public:
  AsRecorded(const Generator& then, bool tf32)
      : grad_mode_(std::exchange(grad_mode, true)),
        generator_(std::exchange(default_generator(), then)),
        tf32_(tf32) {}

  ~AsRecorded() {
    grad_mode = grad_mode_;
    default_generator() = generator_;
  }

  AsRecorded(const AsRecorded&) = delete;
  AsRecorded& operator=(const AsRecorded&) = delete;

 private:
  bool grad_mode_;
  Generator generator_;
  AllowTf32 tf32_;
};

}  // namespace

std::vector<Var> recompute(const std::vector<Var>& inputs, const RecomputeFunction& f) {
  if (!will_record(inputs)) return f(inputs);
  const Generator generator = default_generator();
  const bool tf32 = ops::tf32_allowed();
  std::vector<Tensor> values, outputs;
  for (const Var& input : inputs)
    values.push_back(input.value());
  {
    const NoGrad no_grad;
    for (const Var& output : call(f, inputs))
      outputs.push_back(output.value());
  }
  std::vector<Var> results =
      record("recompute", inputs, std::move(outputs),
             [values, generator, tf32, f](std::span<const Tensor> d, Grads& grads) {
               const AsRecorded scope(generator, tf32);
               Pass pass(last_sequence + 1);
               const std::vector<Var> again = call(f, boundary(values, grads));
               for (std::size_t k = 0; k < again.size(); ++k) {
                 if (!d[k] || !again[k].requires_grad()) continue;
                 add_to(*again[k].state(), d[k], grads.column_sum(static_cast<int>(k)));
                 pass.reach(again[k].state());
               }
               pass.run();
             });
  for (const Var& result : results)
    ask_for_column_sum(result);  // f may
  return results;
}

NoGrad::NoGrad() : previous_(std::exchange(grad_mode, false)) {}

NoGrad::~NoGrad() {
  grad_mode = previous_;
}

bool grad_enabled() {
  return grad_mode;
}

bool will_record(std::initializer_list<const Var*> inputs) {
  return grad_mode && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Var* input) { return input->requires_grad(); });
}

bool will_record(std::span<const Var> inputs) {
  return grad_mode && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Var& input) { return input.requires_grad(); });
}

Node::~Node() {
  std::vector<std::shared_ptr<Node>> orphans;
  const auto drop_inputs = [&orphans](Node& node) {
    for (auto& state : std::exchange(node.inputs, {})) {
      if (!state) continue;
      --state->pending_uses;
      if (state.use_count() == 1 && state->producer) orphans.push_back(std::move(state->producer));
    }
  };
  drop_inputs(*this);
  while (!orphans.empty()) {
    const std::shared_ptr<Node> node = std::move(orphans.back());
    orphans.pop_back();
    if (node.use_count() == 1) drop_inputs(*node);  // so that its own destructor finds none
  }
}

}  // namespace lamina
