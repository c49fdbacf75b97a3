// SPDX-License-Identifier: MIT
#include "core/cuda/cupti.h"

#include "core/error.h"
#include "core/text.h"
#include "core/time_point.h"

#ifdef LAMINA_CUPTI
#include <cuda_runtime_api.h>
#include <cupti.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace lamina::cuda {

namespace {

/// What is used of the library. The types are those of its functions; nothing is linked.
struct Library {
  decltype(&cuptiSubscribe) subscribe;
  decltype(&cuptiUnsubscribe) unsubscribe;
  decltype(&cuptiEnableCallback) enable_callback;
  decltype(&cuptiEnableDomain) enable_domain;
  decltype(&cuptiGetGraphNodeId) graph_node_id;
  decltype(&cuptiGetResultString) result_string;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
  decltype(&cuptiActivityRegisterTimestampCallback) register_timestamp;
  decltype(&cuptiActivityEnable) enable;
  decltype(&cuptiActivityDisable) disable;
  decltype(&cuptiActivityFlushAll) flush_all;
  decltype(&cuptiActivityGetNextRecord) next_record;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped_records;
};

/// Throws Error. Loaded once and kept: CUPTI's own threads may run until the process ends.
const Library& library() {
  static const Library kLibrary = [] {
    const std::string versioned = cat("libcupti.so.", CUDART_VERSION / 1000);
    void* handle = dlopen(versioned.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) handle = dlopen(LAMINA_CUPTI, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      throw Error(cat("trace: neither ", versioned, " nor ", LAMINA_CUPTI,
                      " can be loaded, expected one (kernels are traced with CUPTI of the CUDA ",
                      "toolkit); install the package cuda-cupti, or add its folder to ",
                      "LD_LIBRARY_PATH"));
    }
    Library all{};
    const auto load = [&](auto& function, const char* name) {
      void* symbol = dlsym(handle, name);
      if (symbol == nullptr) {
        throw Error(cat("trace: CUPTI has no ", name, ", expected that of CUDA ",
                        CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10));
      }
      std::memcpy(&function, &symbol, sizeof function);
    };
    load(all.subscribe, "cuptiSubscribe");
    load(all.unsubscribe, "cuptiUnsubscribe");
    load(all.enable_callback, "cuptiEnableCallback");
    load(all.enable_domain, "cuptiEnableDomain");
    load(all.graph_node_id, "cuptiGetGraphNodeId");
    load(all.result_string, "cuptiGetResultString");
    load(all.register_callbacks, "cuptiActivityRegisterCallbacks");
    load(all.register_timestamp, "cuptiActivityRegisterTimestampCallback");
    load(all.enable, "cuptiActivityEnable");
    load(all.disable, "cuptiActivityDisable");
    load(all.flush_all, "cuptiActivityFlushAll");
    load(all.next_record, "cuptiActivityGetNextRecord");
    load(all.dropped_records, "cuptiActivityGetNumDroppedRecords");
    return all;
  }();
  return kLibrary;
}

void expect_success(CUptiResult status, std::string_view what) {
  if (status == CUPTI_SUCCESS) return;
  const char* text = nullptr;
  library().result_string(status, &text);
  throw Error(cat("trace: CUPTI failed to ", what, ": ", text == nullptr ? "unknown error" : text,
                  " (", static_cast<int>(status), "); a process can be watched by one tool: ",
                  "expected no Nsight, no compute-sanitizer and no other trace"));
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(host_now().count());
}

constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};

constexpr CUpti_CallbackDomain kCallDomains[] = {CUPTI_CB_DOMAIN_RUNTIME_API,
                                                 CUPTI_CB_DOMAIN_DRIVER_API};

// Calls that queue nothing are only of interest when the host waits in them.
constexpr std::int64_t kLongCall = 5000;  // ns

const char* name_of_copy(std::uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "copy on device";
    default:
      return "copy";
  }
}

std::string demangle(const char* name) {
  if (name == nullptr) return "";
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : name;
}

}  // namespace

class Cupti::Recording {
 public:
  Recording() {
    const Library& cupti = library();
    {
      const std::lock_guard lock(active_mutex);
      if (active != nullptr) {
        throw Error("trace: there is a recorder already, expected one at a time");
      }
      active = this;
    }
    try {
      expect_success(cupti.subscribe(&subscriber_, &Recording::on_callback, this), "subscribe");
      is_subscribed_ = true;
      // Before any kind is enabled: times of the device are converted to this clock.
      expect_success(cupti.register_timestamp(&now_ns), "take a clock");
      expect_success(cupti.register_callbacks(&Recording::give_buffer, &Recording::take_buffer),
                     "take buffers");
      for (const CUpti_CallbackId id :
           {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED}) {
        expect_success(cupti.enable_callback(1, subscriber_, CUPTI_CB_DOMAIN_RESOURCE, id),
                       "watch graphs");
      }
    } catch (const Error&) {
      leave();
      throw;
    }
  }

  ~Recording() { leave(); }

  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void start() {
    const Library& cupti = library();
    {
      const std::lock_guard lock(mutex_);
      records_.clear();
      calls_.clear();
      origins_.clear();
    }
    std::size_t before = 0;  // reading it sets it to 0
    expect_success(cupti.dropped_records(nullptr, 0, &before), "count records");
    for (const CUpti_CallbackDomain domain : kCallDomains)
      expect_success(cupti.enable_domain(1, subscriber_, domain), "watch calls");
    for (const CUpti_ActivityKind kind : kKinds)
      expect_success(cupti.enable(kind), "record kernels");
  }

  void begin_step(int step) {
    const std::lock_guard lock(mutex_);
    step_ = step;
  }

  Trace stop() {
    const Library& cupti = library();
    for (const CUpti_ActivityKind kind : kKinds)
      expect_success(cupti.disable(kind), "stop");
    for (const CUpti_CallbackDomain domain : kCallDomains)
      expect_success(cupti.enable_domain(0, subscriber_, domain), "stop");
    expect_success(cupti.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "hand over its records");
    std::size_t dropped = 0;
    expect_success(cupti.dropped_records(nullptr, 0, &dropped), "count records");
    if (dropped > 0) {
      throw Error(cat("trace: CUPTI lost ", dropped, " records, expected none; trace fewer steps"));
    }
    return assemble();
  }

 private:
  /// What was known of a piece of work when it was queued.
  struct Origin {
    std::string_view layer, op;
    Direction direction = Direction::forward;
    int step = 0;
    std::uint64_t call = 0;
  };

  /// A record of the device before its origin is looked up.
  struct Record {
    TraceKernel kernel;
    std::uint64_t node;  // of a graph; 0: none
    std::uint32_t correlation;
  };

  Trace assemble() {
    const std::lock_guard lock(mutex_);
    Trace trace;
    std::unordered_set<std::uint64_t> queued;
    for (Record& record : records_) {
      TraceKernel& kernel = record.kernel;
      const auto origin = origins_.find(record.correlation);
      if (origin != origins_.end()) take(origin->second, kernel);
      const auto node = nodes_.find(record.node);
      if (record.node != 0 && node != nodes_.end()) {
        kernel.layer = node->second.layer;
        kernel.op = node->second.op;
        kernel.direction = node->second.direction;
      }
      queued.insert(kernel.call);
      trace.kernels.push_back(std::move(kernel));
    }
    std::stable_sort(trace.kernels.begin(), trace.kernels.end(),
                     [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
    for (TraceCall& call : calls_) {
      const bool is_long = call.end_ns - call.start_ns >= kLongCall;
      if (is_long || queued.count(call.id) > 0) trace.calls.push_back(std::move(call));
    }
    return trace;
  }

  static void take(const Origin& origin, TraceKernel& kernel) {
    kernel.layer = origin.layer;
    kernel.op = origin.op;
    kernel.direction = origin.direction;
    kernel.step = origin.step;
    kernel.call = origin.call;
  }

  static Origin here() {
    return {.layer = current_scope(), .op = current_kernel(), .direction = current_direction()};
  }

  // ---- On the thread that calls CUDA.

  static void CUPTIAPI on_callback(void* user, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                                   const void* data) {
    auto& self = *static_cast<Recording*>(user);
    if (domain == CUPTI_CB_DOMAIN_RESOURCE) {
      const auto* resource = static_cast<const CUpti_ResourceData*>(data);
      self.on_node(id, *static_cast<const CUpti_GraphData*>(resource->resourceDescriptor));
    } else {
      self.on_call(*static_cast<const CUpti_CallbackData*>(data));
    }
  }

  /// See Note [Layers of graph kernels]. A clone may be reported as created as well, before or
  /// after: what is inherited counts more.
  void on_node(CUpti_CallbackId id, const CUpti_GraphData& data) {
    std::uint64_t node = 0, original = 0;
    if (library().graph_node_id(data.node, &node) != CUPTI_SUCCESS) return;
    const std::lock_guard lock(mutex_);
    if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED) {
      nodes_.try_emplace(node, here());
    } else if (library().graph_node_id(data.originalNode, &original) == CUPTI_SUCCESS) {
      const auto from = nodes_.find(original);
      if (from != nodes_.end()) nodes_.insert_or_assign(node, Origin(from->second));
    }
  }

  /// The runtime calls the driver: only the outer call is drawn. Both give the same work its
  /// origin, whichever of their ids its record has.
  void on_call(const CUpti_CallbackData& data) {
    struct Outermost {
      int depth = 0;
      std::uint64_t id = 0;
      std::int64_t start_ns = 0;
      std::uint64_t thread = 0;
    };

    thread_local Outermost outermost;
    const std::int64_t now = host_now().count();
    const std::lock_guard lock(mutex_);
    if (data.callbackSite == CUPTI_API_ENTER) {
      if (outermost.depth++ == 0) {
        if (outermost.thread == 0) outermost.thread = ++threads;
        outermost.id = data.correlationId;
        outermost.start_ns = now;
      }
      Origin origin = here();
      origin.step = step_;
      origin.call = outermost.id;
      origins_.try_emplace(data.correlationId, origin);
    } else if (outermost.depth > 0 && --outermost.depth == 0) {
      calls_.push_back({.name = data.functionName == nullptr ? "" : data.functionName,
                        .id = outermost.id,
                        .thread = outermost.thread,
                        .start_ns = outermost.start_ns,
                        .end_ns = now});
    }
  }

  // ---- On a thread of CUPTI's.

  static void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* records) {
    constexpr std::size_t kBytes = std::size_t{4} << 20U;
    *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(64, kBytes));
    *size = *buffer == nullptr ? 0 : kBytes;
    *records = 0;  // as many as fit
  }

  static void CUPTIAPI take_buffer(CUcontext /*context*/, std::uint32_t /*stream*/,
                                   std::uint8_t* buffer, std::size_t /*size*/, std::size_t valid) {
    {
      const std::lock_guard lock(active_mutex);
      if (active != nullptr) active->read(buffer, valid);
    }
    std::free(buffer);
  }

  void read(std::uint8_t* buffer, std::size_t valid) {
    const std::lock_guard lock(mutex_);
    CUpti_Activity* record = nullptr;
    while (library().next_record(buffer, valid, &record) == CUPTI_SUCCESS) {
      switch (record->kind) {
        case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
          add(*reinterpret_cast<const CUpti_ActivityKernel9*>(record));
          break;
        case CUPTI_ACTIVITY_KIND_MEMCPY:
          add(*reinterpret_cast<const CUpti_ActivityMemcpy5*>(record));
          break;
        case CUPTI_ACTIVITY_KIND_MEMSET:
          add(*reinterpret_cast<const CUpti_ActivityMemset4*>(record));
          break;
        default:
          break;
      }
    }
  }

  // Later versions of these records only append fields to those of CUDA 12.4.
  void add(const CUpti_ActivityKernel9& from) {
    TraceKernel& kernel = add_record(from);
    kernel.full_name = demangle(from.name);
    kernel.name = short_kernel_name(kernel.full_name);
    kernel.grid = {from.gridX, from.gridY, from.gridZ};
    kernel.block = {from.blockX, from.blockY, from.blockZ};
    kernel.registers = from.registersPerThread;
    kernel.shared_bytes = from.staticSharedMemory + from.dynamicSharedMemory;
  }

  void add(const CUpti_ActivityMemcpy5& from) {
    TraceKernel& copy = add_record(from);
    copy.name = name_of_copy(from.copyKind);
    copy.bytes = static_cast<std::int64_t>(from.bytes);
  }

  void add(const CUpti_ActivityMemset4& from) {
    TraceKernel& fill = add_record(from);
    fill.name = "fill";
    fill.bytes = static_cast<std::int64_t>(from.bytes);
  }

  template <class From>
  TraceKernel& add_record(const From& from) {
    Record& record = records_.emplace_back();
    record.node = from.graphNodeId;
    record.correlation = from.correlationId;
    record.kernel.stream = from.streamId;
    record.kernel.start_ns = static_cast<std::int64_t>(from.start);
    record.kernel.end_ns = static_cast<std::int64_t>(from.end);
    return record.kernel;
  }

  void leave() noexcept {
    if (is_subscribed_) {
      for (const CUpti_ActivityKind kind : kKinds)
        library().disable(kind);
      library().unsubscribe(subscriber_);
    }
    const std::lock_guard lock(active_mutex);
    active = nullptr;
  }

  // CUPTI has no user pointer for buffers.
  inline static std::mutex active_mutex;
  inline static Recording* active = nullptr;
  inline static std::atomic<std::uint64_t> threads = 0;  // that have called CUDA in a recording

  CUpti_SubscriberHandle subscriber_ = nullptr;
  bool is_subscribed_ = false;
  std::mutex mutex_;  // guards all below
  int step_ = 0;
  std::unordered_map<std::uint64_t, Origin> nodes_;    // by id, for the life of the object
  std::unordered_map<std::uint64_t, Origin> origins_;  // by correlation id
  std::vector<Record> records_;
  std::vector<TraceCall> calls_;
};

std::string why_no_cupti() {
  try {
    library();
    return "";
  } catch (const Error& error) {
    const std::string text = error.what();
    return text.substr(text.find(": ") + 2);  // without the op
  }
}

Cupti::Cupti() : recording_(std::make_unique<Recording>()) {}

Cupti::~Cupti() = default;

void Cupti::start() {
  recording_->start();
}

void Cupti::begin_step(int step) {
  recording_->begin_step(step);
}

Trace Cupti::stop() {
  return recording_->stop();
}

}  // namespace lamina::cuda
#else
namespace lamina::cuda {

class Cupti::Recording {};

std::string why_no_cupti() {
  return "this build has no CUPTI, expected its header cupti.h beside the CUDA toolkit; install "
         "the package cuda-cupti-dev and build again";
}

Cupti::Cupti() {
  throw Error("trace: " + why_no_cupti());
}

Cupti::~Cupti() = default;

void Cupti::start() {}

void Cupti::begin_step(int /*step*/) {}

Trace Cupti::stop() {
  return {};
}

}  // namespace lamina::cuda
#endif
