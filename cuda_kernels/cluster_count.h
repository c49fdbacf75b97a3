// SPDX-License-Identifier: MIT
// How many thread block clusters run at once. Clusters lie within a GPC, whose number of
// multiprocessors is seldom a multiple of the cluster's size, so it is less than the quotient.
#pragma once

namespace lamina::kernels {

/// Clusters of `blocks` blocks that are resident at once on that CUDA device when a block takes a
/// multiprocessor to itself. Asked once per device and size, then kept; 0 where there are none
/// (below sm_90). CUDA C++ Programming Guide, "Thread Block Clusters".
int clusters_at_once(int blocks, int device);

}  // namespace lamina::kernels
