// SPDX-License-Identifier: MIT
// Host memory as a MemorySource: what the CPU's CachingAllocator stands on.
// The CPU has one stream and runs work as it is queued, so every event is done when it is made.
#pragma once

#include "core/allocator.h"

namespace lamina {

/// The host's memory, aligned to 4 KiB; from 2 MiB on aligned to 2 MiB and offered to the kernel
/// for huge pages. Under AddressSanitizer, memory that no tensor owns is poisoned: reading a freed
/// tensor is reported although its memory is cached. Lives until the program ends.
MemorySource& host_memory();

}  // namespace lamina
