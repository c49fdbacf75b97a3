// SPDX-License-Identifier: MIT
// Module and Layer<T>: a layer is a struct with a forward(); its parameters and children register
// themselves, in order of declaration, through param() and add(), which are the only ways to get
// them.
//
//   struct Gate : Layer<Gate> {
//     explicit Gate(std::int64_t width) : width(width) {}
//     const std::int64_t width;
//     Var& gain = param("gain", {width}, init::ones);
//     nn::Linear& project = add<nn::Linear>("project", width, width);
//     Var forward(const Var& x) { return project(x) * gain; }
//   };
#pragma once

#include "autograd/var.h"
#include "core/profile_scope.h"
#include "core/random.h"
#include "nn/init.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lamina {

struct NamedParameter {
  std::string name;  // path of the layer, a dot, name of the parameter
  Var* var = nullptr;
};

/// A tree of named children and parameters. Addresses are stable: neither copyable nor movable.
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// Where this module is in its tree, e.g. "blocks.1.mlp.up"; "" for the root.
  const std::string& path() const { return path_; }

  /// All parameters of the tree, each once, in order of declaration: a module's own, then its
  /// children's. The pointers are valid as long as the module.
  std::vector<NamedParameter> named_parameters();
  std::vector<Var*> parameters();
  std::int64_t parameter_count();

  /// Moves every parameter to a device and converts it to a dtype. Gradients are forgotten, and
  /// places in an optimizer's flat buffers are left: make the optimizer afterwards.
  void to(Device device, DType dtype);

  /// Training mode (dropout active) or evaluation mode, for the whole tree. Starts in training
  /// mode.
  void train(bool on = true);

  void eval() { train(false); }

  bool is_training() const { return training_; }

  /// Forgets all gradients.
  void zero_grad();

 protected:
  /// Makes a child. Throws Error when the name is taken or contains a dot.
  template <class M, class... Args>
  M& add(std::string_view name, Args&&... args) {
    auto child = std::make_unique<M>(std::forward<Args>(args)...);
    M& reference = *child;
    adopt(name, std::move(child));
    return reference;
  }

  /// Makes an f32 parameter on the CPU, filled by `initializer` from the thread's default
  /// generator.
  Var& param(std::string_view name, const Shape& shape, const init::Initializer& initializer);

 private:
  void adopt(std::string_view name, std::unique_ptr<Module> child);
  void expect_free(std::string_view name) const;
  void set_path(const std::string& path);
  void collect(const std::string& prefix, std::vector<NamedParameter>& out);

  std::string path_;
  bool training_ = true;
  std::vector<std::pair<std::string, std::unique_ptr<Var>>> parameters_;
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> children_;
};

/// Call syntax and one profiling scope per layer, for any T::forward that takes its arguments by
/// value or const reference.
template <class T>
class Layer : public Module {
 public:
  template <class... Args>
  auto operator()(const Args&... args) {
    const ProfileScope scope(path());
    return static_cast<T&>(*this).forward(args...);
  }
};

/// Children "0", "1", ... of one type, all made with the same arguments.
template <class M>
class List : public Module {
 public:
  template <class... Args>
  explicit List(int count, const Args&... args) {
    for (int i = 0; i < count; ++i)
      items_.push_back(&add<M>(std::to_string(i), args...));
  }

  auto begin() const { return items_.begin(); }

  auto end() const { return items_.end(); }

  std::size_t size() const { return items_.size(); }

  M& operator[](std::size_t i) const { return *items_.at(i); }

 private:
  std::vector<M*> items_;
};

}  // namespace lamina
