// SPDX-License-Identifier: MIT
#include "core/trace.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace lamina {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kDevice = 1, kHost = 2;  // processes

std::string_view name_of(Direction direction) {
  return direction == Direction::forward ? "forward" : "backward";
}

std::string_view layer_name(std::string_view layer) {
  return layer.empty() ? "(no layer)" : layer;
}

/// "blocks.0.mlp.up" as blocks.0, mlp, up: a number belongs to the list before it.
std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  while (begin < path.size()) {
    std::size_t end = std::min(path.find('.', begin), path.size());
    while (end + 1 < path.size() && path[end + 1] >= '0' && path[end + 1] <= '9')
      end = std::min(path.find('.', end + 1), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// To three decimals; more digits would only make the file longer.
double rounded(double value) {
  return std::round(value * 1e3) / 1e3;
}

using Kernels = std::vector<const TraceKernel*>;

class Writer {
 public:
  Writer(const Trace& trace, std::ostream& out) : trace_(trace), out_(out) {
    constexpr auto kLast = std::numeric_limits<std::int64_t>::max();
    std::int64_t first = kLast;
    for (const TraceKernel& kernel : trace.kernels)
      first = std::min(first, kernel.start_ns);
    for (const TraceCall& call : trace.calls)
      first = std::min(first, call.start_ns);
    for (const MemorySample& sample : trace.memory)
      first = std::min(first, sample.time_ns);
    base_ = first == kLast ? 0 : first;
  }

  void write() {
    out_ << R"({"schemaVersion":1,"displayTimeUnit":"ms","traceEvents":[)";
    name("process_name", kDevice, 0, trace_.device);
    name("process_name", kHost, 0, "host");
    write_calls();
    std::map<std::uint32_t, Kernels> streams;
    for (const TraceKernel& kernel : trace_.kernels)
      streams[kernel.stream].push_back(&kernel);
    for (auto& [stream, kernels] : streams)
      write_stream(stream, kernels);
    for (const MemorySample& sample : trace_.memory) {
      event({{"name", "memory"},
             {"ph", "C"},
             {"ts", microseconds(sample.time_ns)},
             {"pid", kDevice},
             {"args", {{"live", sample.live}, {"cached", sample.reserved - sample.live}}}});
    }
    out_ << "\n]}\n";
  }

 private:
  double microseconds(std::int64_t time_ns) const {
    return static_cast<double>(time_ns - base_) / 1e3;
  }

  void event(const Json& json) {
    out_ << (std::exchange(is_first_, false) ? "\n" : ",\n")
         << json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  void name(const char* what, int process, std::uint64_t track, std::string_view text) {
    event({{"name", what},
           {"ph", "M"},
           {"pid", process},
           {"tid", track},
           {"args", {{"name", text}}}});
  }

  /// Names a track and puts it behind those that were named before.
  void track(int process, std::uint64_t number, std::string_view text) {
    name("thread_name", process, number, text);
    event({{"name", "thread_sort_index"},
           {"ph", "M"},
           {"pid", process},
           {"tid", number},
           {"args", {{"sort_index", ++tracks_}}}});
  }

  void slice(std::string_view text, std::string_view category, int process, std::uint64_t number,
             std::int64_t start_ns, std::int64_t end_ns, Json args) {
    event({{"name", text},
           {"cat", category},
           {"ph", "X"},
           {"ts", microseconds(start_ns)},
           {"dur", static_cast<double>(end_ns - start_ns) / 1e3},
           {"pid", process},
           {"tid", number},
           {"args", std::move(args)}});
  }

  void write_calls() {
    std::set<std::uint64_t> threads;
    for (const TraceCall& call : trace_.calls) {
      if (threads.insert(call.thread).second) {
        track(kHost, call.thread, "thread " + std::to_string(call.thread));
      }
      slice(call.name, "cuda_runtime", kHost, call.thread, call.start_ns, call.end_ns,
            {{"correlation", call.id}});
    }
    // One arrow a call: those to all the kernels of a graph would hide them.
    std::unordered_map<std::uint64_t, const TraceKernel*> first;
    for (const TraceKernel& kernel : trace_.kernels) {
      if (kernel.call == 0) continue;
      const TraceKernel*& known = first[kernel.call];
      if (known == nullptr || kernel.start_ns < known->start_ns) known = &kernel;
    }
    for (const TraceCall& call : trace_.calls) {
      const auto found = first.find(call.id);
      if (found != first.end()) starts_.emplace(found->second, &call);
    }
  }

  void arrow(const TraceCall& call, const TraceKernel& kernel, std::uint64_t to) {
    Json begin = {{"name", "launch"},
                  {"cat", "ac2g"},
                  {"ph", "s"},
                  {"id", call.id},
                  {"ts", microseconds(call.start_ns)},
                  {"pid", kHost},
                  {"tid", call.thread}};
    event(begin);
    event({{"name", "launch"},
           {"cat", "ac2g"},
           {"ph", "f"},
           {"bp", "e"},
           {"id", call.id},
           {"ts", microseconds(kernel.start_ns)},
           {"pid", kDevice},
           {"tid", to}});
  }

  /// A track of layers and as many of kernels as overlap.
  void write_stream(std::uint32_t stream, Kernels& kernels) {
    std::stable_sort(kernels.begin(), kernels.end(),
                     [](const auto* a, const auto* b) { return a->start_ns < b->start_ns; });
    const std::uint64_t layers = ++device_tracks_;
    const std::string title = "stream " + std::to_string(stream);
    track(kDevice, layers, "layers, " + title);
    write_layers(kernels, 0, layers, std::numeric_limits<std::int64_t>::max());
    std::vector<std::pair<std::uint64_t, std::int64_t>> lanes;  // number and end of the last slice
    for (const TraceKernel* kernel : kernels) {
      auto lane = std::find_if(lanes.begin(), lanes.end(), [&](const auto& candidate) {
        return candidate.second <= kernel->start_ns;
      });
      if (lane == lanes.end()) {
        lane = lanes.insert(lane, {++device_tracks_, 0});
        track(kDevice, lane->first, lanes.size() == 1 ? title : title + ", overlapping");
      }
      lane->second = kernel->end_ns;
      write_kernel(*kernel, lane->first);
    }
  }

  void write_kernel(const TraceKernel& kernel, std::uint64_t lane) {
    const bool is_kernel = kernel.grid[0] > 0;
    Json args = {{"layer", layer_name(kernel.layer)},
                 {"direction", name_of(kernel.direction)},
                 {"step", kernel.step}};
    if (!kernel.op.empty()) args["op"] = kernel.op;
    if (!kernel.full_name.empty()) args["kernel"] = kernel.full_name;
    if (kernel.call != 0) args["correlation"] = kernel.call;
    if (is_kernel) {
      args["grid"] = kernel.grid;
      args["block"] = kernel.block;
      args["registers per thread"] = kernel.registers;
      args["shared memory"] = kernel.shared_bytes;
    }
    const auto ns = static_cast<double>(kernel.end_ns - kernel.start_ns);
    if (kernel.bytes > 0) {
      args["bytes"] = kernel.bytes;
      if (ns > 0) args["GB/s"] = rounded(static_cast<double>(kernel.bytes) / ns);
    }
    if (kernel.flops > 0) {
      args["flops"] = kernel.flops;
      if (ns > 0) args["TFLOP/s"] = rounded(static_cast<double>(kernel.flops) / ns / 1e3);
    }
    slice(kernel.name, kernel.call == 0 || is_kernel ? "kernel" : "gpu_memcpy", kDevice, lane,
          kernel.start_ns, kernel.end_ns, std::move(args));
    const auto call = starts_.find(&kernel);
    if (call != starts_.end()) arrow(*call->second, kernel, lane);
  }

  /// What the slice of a kernel at some depth is: neighbours with the same one share it.
  struct Key {
    int step;
    Direction direction;
    std::string_view path;  // of the layer, down to this depth

    bool operator==(const Key&) const = default;
  };

  /// Depth 0 is the step, 1 the first part of the path. Empty below the kernel's layer.
  static Key key_of(const TraceKernel& kernel, std::size_t depth) {
    if (depth == 0) return {kernel.step, Direction::forward, {}};
    const std::string_view layer = layer_name(kernel.layer);
    const std::vector<std::string_view> parts = parts_of(layer);
    if (depth > parts.size()) return {kernel.step, kernel.direction, {}};
    const std::string_view& part = parts[depth - 1];
    const auto end = static_cast<std::size_t>(part.data() + part.size() - layer.data());
    return {kernel.step, kernel.direction, layer.substr(0, end)};
  }

  static std::string title_of(const Key& key, std::size_t depth) {
    if (depth == 0) return "step " + std::to_string(key.step);
    std::string title(parts_of(key.path).back());
    if (depth == 1 && key.direction == Direction::backward) title += " backward";
    return title;
  }

  /// Slices around kernels that follow each other, one level at a time. A slice ends with its last
  /// kernel, or where the next slice begins: kernels may overlap, slices of a track may not.
  void write_layers(std::span<const TraceKernel* const> kernels, std::size_t depth,
                    std::uint64_t number, std::int64_t limit) {
    for (std::size_t first = 0; first < kernels.size();) {
      const Key key = key_of(*kernels[first], depth);
      std::size_t last = first;
      std::int64_t end = 0, busy = 0;
      while (last < kernels.size() && key_of(*kernels[last], depth) == key) {
        end = std::max(end, kernels[last]->end_ns);
        busy += kernels[last]->end_ns - kernels[last]->start_ns;
        ++last;
      }
      end = std::min(end, last < kernels.size() ? kernels[last]->start_ns : limit);
      end = std::min(end, limit);
      if (depth == 0 || !key.path.empty()) {
        Json args = {{"kernels", last - first}, {"kernel ms", static_cast<double>(busy) / 1e6}};
        if (depth > 0) {
          args["layer"] = key.path;
          args["direction"] = name_of(key.direction);
        }
        slice(title_of(key, depth), depth == 0 ? "step" : "layer", kDevice, number,
              kernels[first]->start_ns, end, std::move(args));
        write_layers(kernels.subspan(first, last - first), depth + 1, number, end);
      }
      first = last;
    }
  }

  const Trace& trace_;
  std::ostream& out_;
  std::int64_t base_ = 0;
  bool is_first_ = true;
  int tracks_ = 0;
  std::uint64_t device_tracks_ = 0;
  std::unordered_map<const TraceKernel*, const TraceCall*> starts_;  // ends and begins of arrows
};

}  // namespace

std::string short_kernel_name(std::string_view full_name) {
  constexpr std::string_view kAnonymous = "(anonymous namespace)::";
  const std::size_t anonymous = full_name.rfind(kAnonymous, full_name.find('<'));
  if (anonymous != std::string_view::npos) full_name.remove_prefix(anonymous + kAnonymous.size());
  full_name = full_name.substr(0, full_name.find_first_of("<("));
  const std::size_t last = full_name.find_last_of(" :");
  return std::string(last == std::string_view::npos ? full_name : full_name.substr(last + 1));
}

std::vector<LayerTime> layer_times(const Trace& trace) {
  std::map<std::pair<std::string_view, Direction>, LayerTime> sums;
  for (const TraceKernel& kernel : trace.kernels) {
    LayerTime& sum = sums[{kernel.layer, kernel.direction}];
    sum.layer = kernel.layer, sum.direction = kernel.direction;
    sum.ns += kernel.end_ns - kernel.start_ns;
    ++sum.kernels;
  }
  std::vector<LayerTime> times;
  for (const auto& [key, sum] : sums)
    times.push_back(sum);
  std::stable_sort(times.begin(), times.end(),
                   [](const auto& a, const auto& b) { return a.ns > b.ns; });
  return times;
}

void write_chrome_trace(const Trace& trace, std::ostream& out) {
  Writer(trace, out).write();
}

}  // namespace lamina
