# SPDX-License-Identifier: MIT
# The dependency rule of docs/architecture.md, as a test. Usage: cmake -DROOT=<source dir> -P check.cmake
cmake_minimum_required(VERSION 3.25)
set(core "")
set(cpu_kernels core)
set(cuda_kernels core)
set(autograd core)
set(nn core autograd)
set(violations "")
foreach(layer core cpu_kernels cuda_kernels autograd nn)
  file(GLOB_RECURSE files "${ROOT}/${layer}/*.h" "${ROOT}/${layer}/*.cpp" "${ROOT}/${layer}/*.cu"
       "${ROOT}/${layer}/*.cuh")
  foreach(file IN LISTS files)
    file(STRINGS "${file}" lines REGEX "^#include [\"<]")
    foreach(line IN LISTS lines)
      if(line MATCHES "\"([a-z_]+)/" AND NOT CMAKE_MATCH_1 STREQUAL "${layer}"
         AND NOT CMAKE_MATCH_1 IN_LIST ${layer})
        list(APPEND violations "${file}: ${line}")
      elseif(line MATCHES "<(cuda|cublas|cub/|thrust/|nvtx3|nvml|cupti)"
             AND NOT file MATCHES "/(cuda_kernels|core/cuda)/")
        list(APPEND violations "${file}: ${line} (CUDA headers only in cuda_kernels and core/cuda)")
      endif()
    endforeach()
  endforeach()
endforeach()
if(violations)
  list(JOIN violations "\n  " text)
  message(FATAL_ERROR "include against the dependency rule:\n  ${text}")
endif()
