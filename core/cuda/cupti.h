// SPDX-License-Identifier: MIT
// Kernel records of the whole process from CUPTI, NVIDIA's interface for profilers: loaded when it
// is used, so that neither the build nor any other run needs it. For TraceRecorder.
#pragma once

#include "core/trace.h"

#include <memory>
#include <string>

namespace lamina::cuda {

/// Why kernels cannot be traced here, and what to do about it; empty when CUPTI can be loaded.
std::string why_no_cupti();

/// Note [Layers of graph kernels]
/// A replayed graph launches its kernels by itself: no scope is open then. But CUPTI calls back on
/// the capturing thread, inside the launch, when a node is created in the graph under capture;
/// there the scope is known and remembered under the node's id. Instantiation clones the graph: for
/// each clone CUPTI calls back with the node and the one it was cloned from, and the clone's id
/// inherits the scope. The record of a kernel then names the clone, in graphNodeId. (CUPTI
/// documentation, CUpti_GraphData, CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED and _CLONED.)
class Cupti {
 public:
  /// Throws Error when CUPTI cannot be loaded or is in use, also by another object of this class.
  /// Graphs that are captured from now on are known.
  Cupti();
  ~Cupti();
  Cupti(const Cupti&) = delete;
  Cupti& operator=(const Cupti&) = delete;

  /// Begins to record kernels, copies, fills and the calls that queue them.
  void start();

  void begin_step(int step);

  /// Ends it. What the device has not finished yet is not in the trace: synchronise first. Throws
  /// Error when records were lost.
  Trace stop();

 private:
  class Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace lamina::cuda
