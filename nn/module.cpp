// SPDX-License-Identifier: MIT
#include "nn/module.h"

#include "core/error.h"
#include "core/text.h"

#include <algorithm>

namespace lamina {

std::vector<NamedParameter> Module::named_parameters() {
  std::vector<NamedParameter> out;
  collect("", out);
  return out;
}

std::vector<Var*> Module::parameters() {
  std::vector<Var*> out;
  for (const NamedParameter& parameter : named_parameters())
    out.push_back(parameter.var);
  return out;
}

std::int64_t Module::parameter_count() {
  std::int64_t count = 0;
  for (const Var* var : parameters())
    count += var->value().elements();
  return count;
}

void Module::to(Device device, DType dtype) {
  for (Var* var : parameters())
    var->set_value(var->value().to(device, dtype));
}

void Module::train(bool on) {
  training_ = on;
  for (auto& [name, child] : children_)
    child->train(on);
}

void Module::zero_grad() {
  for (const Var* var : parameters())
    var->zero_grad();
}

Var& Module::param(std::string_view name, const Shape& shape,
                   const init::Initializer& initializer) {
  expect_free(name);
  const Tensor value = empty(shape);
  initializer(value, default_generator());
  parameters_.emplace_back(name, std::make_unique<Var>(Var::parameter(value)));
  return *parameters_.back().second;
}

void Module::adopt(std::string_view name, std::unique_ptr<Module> child) {
  expect_free(name);
  children_.emplace_back(name, std::move(child));
  set_path(path_);
}

void Module::expect_free(std::string_view name) const {
  if (name.empty() || name.find('.') != std::string_view::npos) {
    throw Error(cat("module: name is \"", name, "\", expected one without dots that is not empty"));
  }
  const auto taken = [&](const auto& entry) { return entry.first == name; };
  if (std::any_of(parameters_.begin(), parameters_.end(), taken) ||
      std::any_of(children_.begin(), children_.end(), taken)) {
    throw Error(cat("module: name \"", name, "\" is taken, expected each name once per module"));
  }
}

void Module::set_path(const std::string& path) {
  path_ = path;
  for (auto& [name, child] : children_) {
    child->set_path(path.empty() ? name : cat(path, ".", name));
  }
}

void Module::collect(const std::string& prefix, std::vector<NamedParameter>& out) {
  for (auto& [name, var] : parameters_)
    out.push_back({prefix + name, var.get()});
  for (auto& [name, child] : children_)
    child->collect(cat(prefix, name, "."), out);
}

}  // namespace lamina
