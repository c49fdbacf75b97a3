// SPDX-License-Identifier: MIT
// launch(): the only dispatch point between ops and kernels. A kernel is an args struct with a name
// (kName, or name() of a family) and a cost, and one run() overload per stream type, found by
// argument-dependent lookup.
#pragma once

#include "core/profile_scope.h"
#include "core/stream.h"

#include <cstdint>
#include <string_view>
#include <variant>

namespace lamina {

/// The name of the kernel of `args`.
template <class Args>
std::string_view name_of(const Args& args) {
  if constexpr (requires { args.name(); }) {
    return args.name();
  } else {
    return Args::kName;
  }
}

/// Runs the kernel of `args` on `stream` inside a profiler scope. A missing backend is a link
/// error. Errors of the launch are thrown; LAMINA_SYNC=1 also waits and reports the errors of the
/// execution.
template <class Args>
void launch(const Stream& stream, const Args& args) {
  const CurrentDevice device(stream);
  const KernelScope scope(name_of(args), args.cost(), stream);
  std::visit([&](auto typed) { run(args, typed); }, stream);
  check_launch(stream, name_of(args));
}

/// Bytes of workspace that the kernel of `args` wants on `stream` (its workspace member is not
/// read).
template <class Args>
std::int64_t workspace_bytes_of(const Stream& stream, const Args& args) {
  const CurrentDevice device(stream);
  return std::visit([&](auto typed) { return workspace_bytes(args, typed); }, stream);
}

}  // namespace lamina
