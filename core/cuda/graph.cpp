// SPDX-License-Identifier: MIT
// CUDA graphs: what StepGraph needs of the runtime.
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <vector>

namespace lamina::cuda {

namespace {

/// Where a node leads to.
struct Followers {
  std::vector<cudaGraphNode_t> nodes;
  std::vector<cudaGraphEdgeData> edges;
};

// CUDA 13 gave the functions with edge data the names of those without.
#if CUDART_VERSION >= 13000
constexpr auto kCaptureInfo = [](auto... arguments) {
  return cudaStreamGetCaptureInfo(arguments...);
};
constexpr auto kDependentNodes = cudaGraphNodeGetDependentNodes;
constexpr auto kAddDependencies = cudaGraphAddDependencies;
constexpr auto kRemoveDependencies = cudaGraphRemoveDependencies;
#else
constexpr auto kCaptureInfo = [](auto... arguments) {
  return cudaStreamGetCaptureInfo_v3(arguments...);
};
constexpr auto kDependentNodes = cudaGraphNodeGetDependentNodes_v2;
constexpr auto kAddDependencies = cudaGraphAddDependencies_v2;
constexpr auto kRemoveDependencies = cudaGraphRemoveDependencies_v2;
#endif

Followers followers_of(cudaGraphNode_t node) {
  std::size_t count = 0;
  LAMINA_CUDA_CHECK(kDependentNodes(node, nullptr, nullptr, &count));
  Followers result{std::vector<cudaGraphNode_t>(count), std::vector<cudaGraphEdgeData>(count)};
  if (count == 0) return result;
  LAMINA_CUDA_CHECK(kDependentNodes(node, result.nodes.data(), result.edges.data(), &count));
  return result;
}

std::vector<cudaGraphNode_t> roots_of(cudaGraph_t graph) {
  std::size_t count = 0;
  LAMINA_CUDA_CHECK(cudaGraphGetRootNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> roots(count);
  LAMINA_CUDA_CHECK(cudaGraphGetRootNodes(graph, roots.data(), &count));
  return roots;
}

bool is_kernel(cudaGraphNode_t node) {
  cudaGraphNodeType type{};
  LAMINA_CUDA_CHECK(cudaGraphNodeGetType(node, &type));
  return type == cudaGraphNodeTypeKernel;
}

cudaGraphNode_t add_time_stamp(cudaGraph_t graph, const void* kernel, std::uint64_t* at) {
  void* arguments[] = {&at};
  cudaKernelNodeParams params{};
  params.func = const_cast<void*>(kernel);
  params.gridDim = params.blockDim = dim3(1);
  params.kernelParams = arguments;
  cudaGraphNode_t node = nullptr;
  LAMINA_CUDA_CHECK(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  return node;
}

void put_at_beginning(cudaGraph_t graph, cudaGraphNode_t stamp) {
  for (const cudaGraphNode_t& root : roots_of(graph)) {
    if (root != stamp) LAMINA_CUDA_CHECK(kAddDependencies(graph, &stamp, &root, nullptr, 1));
  }
}

/// Puts a time stamp between a node and all that follows it. `may_start_early`: the stamp waits by
/// itself until the node is done.
void put_behind(cudaGraph_t graph, cudaGraphNode_t behind, cudaGraphNode_t stamp,
                bool may_start_early) {
  const Followers followers = followers_of(behind);
  cudaGraphEdgeData early{};
  early.type = cudaGraphDependencyTypeProgrammatic;
  early.from_port = cudaGraphKernelNodePortProgrammatic;
  LAMINA_CUDA_CHECK(kAddDependencies(graph, &behind, &stamp,
                                     may_start_early && is_kernel(behind) ? &early : nullptr, 1));
  for (std::size_t i = 0; i < followers.nodes.size(); ++i) {
    const cudaGraphNode_t& follower = followers.nodes[i];
    LAMINA_CUDA_CHECK(kRemoveDependencies(graph, &behind, &follower, &followers.edges[i], 1));
    LAMINA_CUDA_CHECK(kAddDependencies(graph, &stamp, &follower, &followers.edges[i], 1));
  }
}

/// Nodes that nothing follows.
std::vector<cudaGraphNode_t> leaves_of(cudaGraph_t graph) {
  std::size_t count = 0;
  LAMINA_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  LAMINA_CUDA_CHECK(cudaGraphGetNodes(graph, nodes.data(), &count));
  std::erase_if(nodes, [](cudaGraphNode_t node) { return !followers_of(node).nodes.empty(); });
  return nodes;
}

void* instantiate(cudaGraph_t graph, CudaStream stream) {
  cudaGraphExec_t executable = nullptr;
  LAMINA_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  const cudaError_t status = cudaGraphUpload(executable, stream.handle);
  if (status != cudaSuccess) cudaGraphExecDestroy(executable);
  LAMINA_CUDA_CHECK(status);
  return executable;
}

}  // namespace

void begin_capture(CudaStream stream) {
  LAMINA_CUDA_CHECK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
}

bool is_capturing(CudaStream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  LAMINA_CUDA_CHECK(cudaStreamIsCapturing(stream.handle, &status));
  return status != cudaStreamCaptureStatusNone;
}

void expect_no_capture(std::string_view op, CudaStream stream) {
  if (!is_capturing(stream)) return;
  throw Error(cat(op, ": the source is host memory while a step is recorded, expected memory of ",
                  Device{DeviceKind::cuda, stream.device},
                  " (each replay would read it again); copy it before the step"));
}

std::optional<CaptureTail> capture_tail(CudaStream stream) noexcept {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaGraphNode_t* nodes = nullptr;
  const cudaGraphEdgeData* edges = nullptr;
  std::size_t count = 0;
  unsigned long long* const id = nullptr;
  cudaGraph_t* const graph = nullptr;
  if (kCaptureInfo(stream.handle, &status, id, graph, &nodes, &edges, &count) != cudaSuccess ||
      status != cudaStreamCaptureStatusActive) {
    return std::nullopt;
  }
  return CaptureTail{count, count == 1 ? *nodes : nullptr};
}

CapturedGraph end_capture(CudaStream stream) {
  cudaGraph_t graph = nullptr;
  LAMINA_CUDA_CHECK(cudaStreamEndCapture(stream.handle, &graph));
  CapturedGraph result;
  try {
    LAMINA_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &result.nodes));
    result.executable = instantiate(graph, stream);
  } catch (const CudaError&) {
    cudaGraphDestroy(graph);
    throw;
  }
  result.graph = graph;
  return result;
}

void* instantiate_timed(void* graph, const TimeStamps& stamps, CudaStream stream) {
  const DeviceGuard guard(stream.device);
  auto* const timed = static_cast<cudaGraph_t>(graph);
  // Code for older GPUs does not wait for the kernel before it, wherever it runs.
  cudaFuncAttributes attributes{};
  LAMINA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, stamps.kernel));
  const bool may_start_early = attributes.ptxVersion >= 90;
  std::uint64_t* at = stamps.on_device;
  for (void* node : stamps.nodes) {
    const cudaGraphNode_t stamp = add_time_stamp(timed, stamps.kernel, at++);
    if (node == nullptr) {
      put_at_beginning(timed, stamp);
    } else {
      put_behind(timed, static_cast<cudaGraphNode_t>(node), stamp, may_start_early);
    }
  }
  if (stamps.nodes.empty()) return instantiate(timed, stream);
  const std::vector<cudaGraphNode_t> leaves = leaves_of(timed);
  cudaGraphNode_t copy = nullptr;
  LAMINA_CUDA_CHECK(cudaGraphAddMemcpyNode1D(
      &copy, timed, leaves.data(), leaves.size(), stamps.on_host, stamps.on_device,
      stamps.nodes.size() * sizeof(std::uint64_t), cudaMemcpyDeviceToHost));
  return instantiate(timed, stream);
}

void abandon_capture(CudaStream stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream.handle, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // the failure that ended the capture is being reported already
}

void launch_graph(void* executable, CudaStream stream) {
  const DeviceGuard guard(stream.device);
  LAMINA_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable), stream.handle));
}

void destroy_executable(void* executable, CudaStream stream) noexcept {
  cudaStreamSynchronize(stream.handle);  // a replay may be under way
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable));
}

void destroy_graph(void* graph) noexcept {
  cudaGraphDestroy(static_cast<cudaGraph_t>(graph));
}

}  // namespace lamina::cuda
