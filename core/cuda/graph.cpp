// SPDX-License-Identifier: MIT
// CUDA graphs: what StepGraph needs of the runtime.
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>

namespace lamina::cuda {

void begin_capture(CudaStream stream) {
  LAMINA_CUDA_CHECK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
}

bool is_capturing(CudaStream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  LAMINA_CUDA_CHECK(cudaStreamIsCapturing(stream.handle, &status));
  return status != cudaStreamCaptureStatusNone;
}

CapturedGraph end_capture(CudaStream stream) {
  cudaGraph_t graph = nullptr;
  LAMINA_CUDA_CHECK(cudaStreamEndCapture(stream.handle, &graph));
  CapturedGraph result;
  cudaGraphExec_t executable = nullptr;
  cudaError_t status = cudaGraphGetNodes(graph, nullptr, &result.nodes);
  if (status == cudaSuccess) status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  LAMINA_CUDA_CHECK(status);
  result.executable = executable;
  status = cudaGraphUpload(executable, stream.handle);
  if (status != cudaSuccess) cudaGraphExecDestroy(executable);
  LAMINA_CUDA_CHECK(status);
  return result;
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

void destroy_graph(void* executable, CudaStream stream) noexcept {
  cudaStreamSynchronize(stream.handle);  // a replay may be under way
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable));
}

}  // namespace lamina::cuda
