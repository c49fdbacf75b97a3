// SPDX-License-Identifier: MIT
#include "autograd/watch.h"

#include "core/profile_scope.h"
#include "core/text.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lamina {

namespace {

thread_local std::vector<OpWatch*> watches;

/// Throws when a value is not finite. what: "output", ...
void expect_finite(std::string_view op, std::string_view scope, const Tensor& x,
                   std::string_view what, std::size_t index, std::string_view blame) {
  if (!x || !is_float(x.dtype())) return;
  const std::vector<double> values = x.to_vector<double>();
  const auto bad = std::find_if_not(values.begin(), values.end(),
                                    [](double value) { return std::isfinite(value); });
  if (bad == values.end()) return;
  throw NotFiniteError(cat(op, scope.empty() ? "" : " in ", scope, " ", blame, " ", what, " ",
                           index, " of shape ", x.shape(), " with ", *bad, " at element ",
                           bad - values.begin(), ", expected finite values"));
}

}  // namespace

WatchOps::WatchOps(OpWatch& watch) {
  watches.push_back(&watch);
}

WatchOps::~WatchOps() {
  watches.pop_back();
}

void FindNotFinite::forward(std::string_view op, std::string_view scope,
                            std::span<const Var> inputs, std::span<const Tensor> outputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& state = inputs[i].state();
    const bool is_made = state && !state->is_parameter;  // and was looked at then
    if (!is_made) expect_finite(op, scope, inputs[i].value(), "input", i, "is given");
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    expect_finite(op, scope, outputs[i], "output", i, "makes");
}

void FindNotFinite::backward(std::string_view op, std::string_view scope,
                             std::span<const Tensor> gradients) {
  for (std::size_t i = 0; i < gradients.size(); ++i)
    expect_finite(op, scope, gradients[i], "input", i, "makes the gradient of");
}

void tell_forward(std::string_view op, std::span<const Var> inputs,
                  std::span<const Tensor> outputs) {
  for (OpWatch* const watch : watches)
    watch->forward(op, current_scope(), inputs, outputs);
}

void tell_backward(std::string_view op, std::string_view scope,
                   std::span<const std::shared_ptr<GradState>> inputs) {
  if (watches.empty()) return;
  std::vector<Tensor> gradients;
  for (const auto& state : inputs)
    gradients.push_back(state && state->has_grad ? state->grad : Tensor());
  for (OpWatch* const watch : watches)
    watch->backward(op, scope, gradients);
}

}  // namespace lamina
