// SPDX-License-Identifier: MIT
// Policies of the row kernels measured on NVIDIA H200, 2026-11-21, commit unknown.
// Written by benchmarks/kernels/layer_norm_sweep --header: run it again, do not edit. The
// entry of a problem is the first of its types and operands with as many columns and rows.
// Each was measured cold at its own number of columns; the narrower ones back to the entry
// before are within 1 % of their best with it. "rule" and "next": how much longer the rule
// of thumb and the runner-up take.
#pragma once

#include "cuda_kernels/tuning/row_policy.h"

namespace lamina::kernels::tuning {

// clang-format off
// element bytes, stream bytes, has residual, has tail, columns and rows up to, policy
inline constexpr TunedRow kForwardSm90[] = {
    {2, 2, false, false, 256, 512, {RowVariant::held, 1, 128, 1, 0, 0}},                // 256 rows: 1.70 us, 156 GB/s, 82 % of copy, the rule
    {2, 2, false, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                // 256 rows: 1.80 us, 293 GB/s, 83 % of copy, the rule
    {2, 2, false, false, 768, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                // 256 rows: 1.93 us, 411 GB/s, 82 % of copy, rule 1.29x
    {2, 2, false, false, 1600, 512, {RowVariant::held, 1, 512, 1, 0, 0}},               // 256 rows: 2.22 us, 743 GB/s, 77 % of copy, rule 1.31x
    {2, 2, false, false, 4096, 512, {RowVariant::held, 2, 512, 1, 0, 0}},               // 256 rows: 2.97 us, 1420 GB/s, 79 % of copy, rule 1.20x
    {2, 2, false, false, 12288, 512, {RowVariant::held, 3, 512, 1, 0, 0}},              // 256 rows: 5.29 us, 2390 GB/s, 86 % of copy, rule 1.05x
    {2, 2, false, false, 16384, 512, {RowVariant::held, 4, 512, 1, 0, 0}},              // 256 rows: 6.46 us, 2606 GB/s, 85 % of copy, the rule
    {2, 2, false, false, 20480, 512, {RowVariant::ring, 0, 512, 1, 2, 2}},              // 256 rows: 9.60 us, 2193 GB/s, 68 % of copy, rule 1.19x
    {2, 2, false, false, 32768, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 16.16 us, 2085 GB/s, 57 % of copy, rule 1.02x
    {2, 2, false, false, 49152, 512, {RowVariant::ring, 0, 512, 1, 2, 1}},              // 256 rows: 22.66 us, 2230 GB/s, 62 % of copy, the rule
    {2, 2, false, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 31.98 us, 2106 GB/s, 56 % of copy, rule 1.26x
    {2, 2, false, false, 256, kAnyRows, {RowVariant::held, 2, 256, 1, 0, 0}},           // 65536 rows: 20.07 us, 3370 GB/s, 90 % of copy, rule 1.07x
    {2, 2, false, false, 384, kAnyRows, {RowVariant::held, 3, 128, 1, 0, 0}},           // 65536 rows: 28.07 us, 3605 GB/s, 94 % of copy, rule 1.08x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},           // 32768 rows: 19.59 us, 3439 GB/s, 92 % of copy, rule 1.00x
    {2, 2, false, false, 768, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},            // 32768 rows: 27.70 us, 3643 GB/s, 96 % of copy, rule 1.03x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::held, 4, 64, 1, 0, 0}},           // 16384 rows: 19.37 us, 3472 GB/s, 93 % of copy, rule 1.00x
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},           // 16384 rows: 25.20 us, 3334 GB/s, 90 % of copy, rule 1.12x
    {2, 2, false, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},         // 4096 rows: 73.81 us, 3638 GB/s, 87 % of copy, the rule
    {2, 2, false, false, 32768, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 2048 rows: 88.28 us, 3042 GB/s, 73 % of copy, rule 1.06x
    {2, 2, false, false, 49152, kAnyRows, {RowVariant::ring, 0, 512, 1, 2, 1}},         // 2048 rows: 134.33 us, 2999 GB/s, 71 % of copy, the rule
    {2, 2, false, false, 65536, kAnyRows, {RowVariant::streamed, 0, 256, 1, 0, 0}},     // 2048 rows: 215.78 us, 2489 GB/s, 59 % of copy, rule 1.32x
    {2, 2, true, false, 256, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                 // 256 rows: 2.17 us, 242 GB/s, 68 % of copy, rule 1.01x
    {2, 2, true, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                 // 256 rows: 2.45 us, 430 GB/s, 67 % of copy, the rule
    {2, 2, true, false, 3072, 512, {RowVariant::held, 1, 512, 1, 0, 0}},                // 256 rows: 3.74 us, 1687 GB/s, 77 % of copy, rule 1.00x
    {2, 2, true, false, 8192, 512, {RowVariant::held, 4, 512, 1, 0, 0}},                // 256 rows: 6.26 us, 2686 GB/s, 89 % of copy, rule 1.00x
    {2, 2, true, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 45.37 us, 2964 GB/s, 78 % of copy, the rule
    {2, 2, true, false, 64, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},              // 262144 rows: 43.15 us, 3159 GB/s, 82 % of copy, rule 1.03x
    {2, 2, true, false, 256, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},            // 65536 rows: 38.86 us, 3467 GB/s, 91 % of copy, rule 1.01x
    {2, 2, true, false, 384, kAnyRows, {RowVariant::held, 3, 32, 1, 0, 0}},             // 65536 rows: 55.28 us, 3652 GB/s, 94 % of copy, rule 1.04x
    {2, 2, true, false, 512, kAnyRows, {RowVariant::held, 2, 64, 1, 0, 0}},             // 32768 rows: 37.70 us, 3567 GB/s, 93 % of copy, rule 1.00x
    {2, 2, true, false, 768, kAnyRows, {RowVariant::held, 3, 32, 1, 0, 0}},             // 32768 rows: 53.78 us, 3749 GB/s, 97 % of copy, rule 1.08x
    {2, 2, true, false, 1024, kAnyRows, {RowVariant::held, 2, 64, 1, 0, 0}},            // 16384 rows: 36.94 us, 3637 GB/s, 95 % of copy, rule 1.02x
    {2, 2, true, false, 1280, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},            // 16384 rows: 45.70 us, 3674 GB/s, 95 % of copy, rule 1.13x
    {2, 2, true, false, 2560, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},           // 8192 rows: 45.40 us, 3697 GB/s, 96 % of copy, rule 1.05x
    {2, 2, true, false, 8192, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},           // 4096 rows: 72.64 us, 3697 GB/s, 89 % of copy, rule 1.00x
    {2, 2, true, false, 12288, kAnyRows, {RowVariant::streamed, 0, 256, 1, 0, 0}},      // 4096 rows: 109.92 us, 3664 GB/s, 87 % of copy, rule 1.09x
    {2, 2, true, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 147.38 us, 3643 GB/s, 86 % of copy, the rule
    {2, 2, true, false, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},      // 2048 rows: 343.84 us, 3124 GB/s, 73 % of copy, the rule
    {4, 4, false, false, 128, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                // 256 rows: 1.61 us, 165 GB/s, 87 % of copy, rule 1.01x
    {4, 4, false, false, 384, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                // 256 rows: 1.83 us, 431 GB/s, 87 % of copy, rule 1.02x
    {4, 4, false, false, 512, 512, {RowVariant::held, 4, 128, 1, 0, 0}},                // 256 rows: 1.93 us, 547 GB/s, 85 % of copy, the rule
    {4, 4, false, false, 2048, 512, {RowVariant::held, 2, 256, 1, 0, 0}},               // 256 rows: 2.90 us, 1452 GB/s, 81 % of copy, rule 1.16x
    {4, 4, false, false, 3072, 512, {RowVariant::held, 3, 256, 1, 0, 0}},               // 256 rows: 3.48 us, 1816 GB/s, 82 % of copy, rule 1.09x
    {4, 4, false, false, 4096, 512, {RowVariant::held, 4, 512, 1, 0, 0}},               // 256 rows: 4.01 us, 2098 GB/s, 83 % of copy, rule 1.06x
    {4, 4, false, false, 5120, 512, {RowVariant::held, 3, 512, 1, 0, 0}},               // 256 rows: 4.68 us, 2248 GB/s, 85 % of copy, rule 1.04x
    {4, 4, false, false, 8192, 512, {RowVariant::held, 4, 512, 1, 0, 0}},               // 256 rows: 6.13 us, 2748 GB/s, 90 % of copy, rule 1.02x
    {4, 4, false, false, 10240, 512, {RowVariant::held, 8, 512, 1, 0, 0}},              // 256 rows: 7.35 us, 2864 GB/s, 89 % of copy, the rule
    {4, 4, false, false, 12288, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 10.55 us, 2395 GB/s, 72 % of copy, rule 1.02x
    {4, 4, false, false, 16384, 512, {RowVariant::held, 8, 512, 1, 0, 0}},              // 256 rows: 13.03 us, 2585 GB/s, 71 % of copy, the rule
    {4, 4, false, false, 32768, 512, {RowVariant::cluster, 8, 512, 2, 0, 0}},           // 256 rows: 26.50 us, 2542 GB/s, 68 % of copy, the rule
    {4, 4, false, false, 49152, 512, {RowVariant::cluster, 8, 512, 8, 0, 0}},           // 256 rows: 42.01 us, 2406 GB/s, 63 % of copy, rule 1.14x
    {4, 4, false, false, 65536, 512, {RowVariant::cluster, 8, 512, 4, 0, 0}},           // 256 rows: 56.06 us, 2404 GB/s, 63 % of copy, the rule
    {4, 4, false, false, 512, kAnyRows, {RowVariant::held, 4, 64, 1, 0, 0}},            // 16384 rows: 19.09 us, 3523 GB/s, 94 % of copy, rule 1.00x
    {4, 4, false, false, 1024, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},          // 8192 rows: 18.75 us, 3583 GB/s, 92 % of copy, rule 1.02x
    {4, 4, false, false, 4096, kAnyRows, {RowVariant::held, 4, 256, 1, 0, 0}},          // 4096 rows: 36.24 us, 3706 GB/s, 91 % of copy, rule 1.00x
    {4, 4, false, false, 10240, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},         // 4096 rows: 86.77 us, 3868 GB/s, 93 % of copy, the rule
    {4, 4, false, false, 12288, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 4096 rows: 117.41 us, 3430 GB/s, 81 % of copy, rule 1.03x
    {4, 4, false, false, 16384, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},         // 4096 rows: 146.16 us, 3674 GB/s, 87 % of copy, the rule
    {4, 4, false, false, 20480, kAnyRows, {RowVariant::ring, 0, 512, 1, 2, 1}},         // 2048 rows: 106.85 us, 3142 GB/s, 75 % of copy, the rule
    {4, 4, false, false, 49152, kAnyRows, {RowVariant::cluster, 8, 256, 8, 0, 0}},      // 2048 rows: 299.85 us, 2687 GB/s, 63 % of copy, rule 1.16x
    {4, 4, false, false, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 2048 rows: 399.38 us, 2690 GB/s, 68 % of copy, rule 1.02x
    {4, 4, true, false, 1024, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                // 256 rows: 2.79 us, 1509 GB/s, 84 % of copy, rule 1.36x
    {4, 4, true, false, 2048, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 3.83 us, 2197 GB/s, 88 % of copy, rule 1.24x
    {4, 4, true, false, 3072, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 5.01 us, 2518 GB/s, 90 % of copy, rule 1.11x
    {4, 4, true, false, 4096, 512, {RowVariant::held, 4, 256, 1, 0, 0}},                // 256 rows: 5.92 us, 2842 GB/s, 94 % of copy, rule 1.09x
    {4, 4, true, false, 6144, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 7.70 us, 3274 GB/s, 99 % of copy, rule 1.07x
    {4, 4, true, false, 8192, 512, {RowVariant::held, 4, 512, 1, 0, 0}},                // 256 rows: 9.86 us, 3409 GB/s, 94 % of copy, rule 1.01x
    {4, 4, true, false, 12288, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 15.76 us, 3201 GB/s, 90 % of copy, rule 1.05x
    {4, 4, true, false, 16384, 512, {RowVariant::held, 8, 512, 1, 0, 0}},               // 256 rows: 20.36 us, 3303 GB/s, 88 % of copy, the rule
    {4, 4, true, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 87.09 us, 3088 GB/s, 79 % of copy, the rule
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 8192 rows: 35.16 us, 3819 GB/s, 94 % of copy, rule 1.04x
    {4, 4, true, false, 1600, kAnyRows, {RowVariant::held, 2, 256, 1, 0, 0}},           // 8192 rows: 53.34 us, 3933 GB/s, 101 % of copy, rule 1.03x
    {4, 4, true, false, 3072, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},           // 4096 rows: 52.49 us, 3837 GB/s, 93 % of copy, rule 1.01x
    {4, 4, true, false, 8192, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},           // 4096 rows: 137.56 us, 3904 GB/s, 92 % of copy, rule 1.00x
    {4, 4, true, false, 12288, kAnyRows, {RowVariant::held, 6, 512, 1, 0, 0}},          // 4096 rows: 207.70 us, 3878 GB/s, 91 % of copy, rule 1.06x
    {4, 4, true, false, 16384, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},          // 4096 rows: 273.12 us, 3932 GB/s, 100 % of copy, the rule
    {4, 4, true, false, 32768, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},      // 2048 rows: 338.86 us, 3170 GB/s, 74 % of copy, the rule
    {4, 4, true, false, 65536, kAnyRows, {RowVariant::streamed, 0, 256, 1, 0, 0}},      // 2048 rows: 675.10 us, 3182 GB/s, 74 % of copy, rule 1.01x
};

inline constexpr TunedRow kBackwardSm90[] = {
    {2, 2, false, false, 64, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                 // 256 rows: 3.63 us, 28 GB/s, 36 % of copy, rule 1.08x
    {2, 2, false, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 2}},                // 256 rows: 4.12 us, 96 GB/s, 35 % of copy, rule 1.02x
    {2, 2, false, false, 512, 512, {RowVariant::ring, 1, 64, 1, 2, 4}},                 // 256 rows: 3.94 us, 201 GB/s, 40 % of copy, rule 1.27x
    {2, 2, false, false, 768, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                // 256 rows: 4.08 us, 291 GB/s, 40 % of copy, rule 1.38x
    {2, 2, false, false, 1280, 512, {RowVariant::ring, 3, 64, 1, 2, 4}},                // 256 rows: 4.89 us, 404 GB/s, 36 % of copy, rule 1.23x
    {2, 2, false, false, 1600, 512, {RowVariant::ring, 1, 384, 1, 2, 3}},               // 256 rows: 5.47 us, 451 GB/s, 35 % of copy, rule 1.15x
    {2, 2, false, false, 3072, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},               // 256 rows: 7.20 us, 658 GB/s, 35 % of copy, rule 1.28x
    {2, 2, false, false, 5120, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 9.33 us, 847 GB/s, 35 % of copy, rule 1.03x
    {2, 2, false, false, 8192, 512, {RowVariant::ring, 3, 384, 1, 2, 1}},               // 256 rows: 12.34 us, 1024 GB/s, 37 % of copy, rule 1.11x
    {2, 2, false, false, 256, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 65536 rows: 29.85 us, 3389 GB/s, 89 % of copy, rule 1.11x
    {2, 2, false, false, 384, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},           // 65536 rows: 42.81 us, 3539 GB/s, 92 % of copy, rule 1.32x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 32768 rows: 30.38 us, 3323 GB/s, 87 % of copy, rule 1.13x
    {2, 2, false, false, 768, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},           // 32768 rows: 42.84 us, 3530 GB/s, 91 % of copy, rule 1.08x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 16384 rows: 30.81 us, 3271 GB/s, 86 % of copy, rule 1.03x
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 16384 rows: 37.72 us, 3339 GB/s, 87 % of copy, rule 1.09x
    {2, 2, false, false, 1600, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 4}},          // 16384 rows: 46.22 us, 3406 GB/s, 88 % of copy, rule 1.04x
    {2, 2, false, false, 3072, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 8192 rows: 43.97 us, 3436 GB/s, 90 % of copy, rule 1.05x
    {2, 2, false, false, 5120, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 4096 rows: 42.00 us, 2997 GB/s, 79 % of copy, rule 1.02x
    {2, 2, false, false, 8192, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 4096 rows: 56.31 us, 3577 GB/s, 87 % of copy, rule 1.04x
    {2, 2, true, false, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                 // 256 rows: 3.95 us, 67 GB/s, 36 % of copy, rule 1.02x
    {2, 2, true, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 2}},                 // 256 rows: 4.19 us, 126 GB/s, 36 % of copy, rule 1.02x
    {2, 2, true, false, 512, 512, {RowVariant::ring, 1, 64, 1, 2, 4}},                  // 256 rows: 4.01 us, 263 GB/s, 41 % of copy, rule 1.27x
    {2, 2, true, false, 768, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                 // 256 rows: 4.21 us, 375 GB/s, 40 % of copy, rule 1.38x
    {2, 2, true, false, 1024, 512, {RowVariant::ring, 3, 64, 1, 2, 4}},                 // 256 rows: 4.92 us, 428 GB/s, 37 % of copy, rule 1.27x
    {2, 2, true, false, 1280, 512, {RowVariant::ring, 2, 128, 1, 2, 4}},                // 256 rows: 5.05 us, 521 GB/s, 39 % of copy, rule 1.24x
    {2, 2, true, false, 1600, 512, {RowVariant::ring, 1, 256, 1, 2, 3}},                // 256 rows: 5.74 us, 573 GB/s, 37 % of copy, rule 1.15x
    {2, 2, true, false, 3072, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},                // 256 rows: 7.66 us, 824 GB/s, 38 % of copy, rule 1.25x
    {2, 2, true, false, 8192, 512, {RowVariant::ring, 3, 384, 1, 2, 1}},                // 256 rows: 13.36 us, 1260 GB/s, 41 % of copy, rule 1.13x
    {2, 2, true, false, 64, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},             // 262144 rows: 38.15 us, 3573 GB/s, 93 % of copy, rule 1.02x
    {2, 2, true, false, 512, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},            // 32768 rows: 37.57 us, 3580 GB/s, 94 % of copy, rule 1.05x
    {2, 2, true, false, 768, kAnyRows, {RowVariant::ring, 3, 256, 1, 2, 1}},            // 32768 rows: 53.05 us, 3800 GB/s, 97 % of copy, rule 1.03x
    {2, 2, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},           // 16384 rows: 38.16 us, 3521 GB/s, 92 % of copy, rule 1.05x
    {2, 2, true, false, 1280, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 4}},           // 16384 rows: 45.35 us, 3703 GB/s, 95 % of copy, rule 1.04x
    {2, 2, true, false, 2048, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},           // 8192 rows: 38.39 us, 3498 GB/s, 92 % of copy, rule 1.07x
    {2, 2, true, false, 2560, kAnyRows, {RowVariant::ring, 1, 384, 1, 2, 2}},           // 8192 rows: 45.99 us, 3650 GB/s, 95 % of copy, rule 1.11x
    {2, 2, true, false, 3072, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 8192 rows: 54.06 us, 3726 GB/s, 96 % of copy, rule 1.01x
    {2, 2, true, false, 6144, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 54.70 us, 3682 GB/s, 95 % of copy, rule 1.02x
    {2, 2, true, false, 8192, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},           // 4096 rows: 71.91 us, 3734 GB/s, 89 % of copy, rule 1.03x
    {2, 2, true, true, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                  // 256 rows: 4.31 us, 61 GB/s, 33 % of copy, rule 1.02x
    {2, 2, true, true, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 1}},                  // 256 rows: 4.66 us, 113 GB/s, 32 % of copy, rule 1.01x
    {2, 2, true, true, 512, 512, {RowVariant::ring, 1, 64, 1, 2, 4}},                   // 256 rows: 4.33 us, 243 GB/s, 38 % of copy, rule 1.31x
    {2, 2, true, true, 1024, 512, {RowVariant::ring, 2, 64, 1, 2, 4}},                  // 256 rows: 5.62 us, 375 GB/s, 32 % of copy, rule 1.31x
    {2, 2, true, true, 1600, 512, {RowVariant::ring, 2, 128, 1, 2, 3}},                 // 256 rows: 6.40 us, 514 GB/s, 33 % of copy, rule 1.23x
    {2, 2, true, true, 2048, 512, {RowVariant::ring, 1, 256, 1, 2, 1}},                 // 256 rows: 7.15 us, 588 GB/s, 33 % of copy, rule 1.20x
    {2, 2, true, true, 4096, 512, {RowVariant::ring, 1, 512, 1, 2, 1}},                 // 256 rows: 10.89 us, 773 GB/s, 31 % of copy, rule 1.32x
    {2, 2, true, true, 6144, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},                 // 256 rows: 14.62 us, 864 GB/s, 31 % of copy, rule 1.00x
    {2, 2, true, true, 8192, 512, {RowVariant::ring, 3, 384, 1, 2, 1}},                 // 256 rows: 16.03 us, 1050 GB/s, 34 % of copy, rule 1.14x
    {2, 2, true, true, 64, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},              // 262144 rows: 38.97 us, 3498 GB/s, 91 % of copy, rule 1.02x
    {2, 2, true, true, 256, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},             // 65536 rows: 38.59 us, 3491 GB/s, 91 % of copy, rule 1.02x
    {2, 2, true, true, 384, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},             // 65536 rows: 54.53 us, 3702 GB/s, 95 % of copy, rule 1.30x
    {2, 2, true, true, 512, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},             // 32768 rows: 38.94 us, 3453 GB/s, 90 % of copy, rule 1.07x
    {2, 2, true, true, 768, kAnyRows, {RowVariant::ring, 3, 256, 1, 2, 1}},             // 32768 rows: 54.95 us, 3669 GB/s, 94 % of copy, rule 1.04x
    {2, 2, true, true, 1280, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 16384 rows: 47.60 us, 3527 GB/s, 91 % of copy, rule 1.05x
    {2, 2, true, true, 1600, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 4}},            // 16384 rows: 58.29 us, 3600 GB/s, 92 % of copy, rule 1.06x
    {2, 2, true, true, 2048, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},            // 8192 rows: 40.48 us, 3318 GB/s, 87 % of copy, rule 1.08x
    {2, 2, true, true, 2560, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 8192 rows: 48.84 us, 3437 GB/s, 89 % of copy, rule 1.29x
    {2, 2, true, true, 3072, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},            // 8192 rows: 55.93 us, 3601 GB/s, 93 % of copy, rule 1.02x
    {2, 2, true, true, 6144, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 4096 rows: 59.15 us, 3405 GB/s, 88 % of copy, rule 1.02x
    {2, 2, true, true, 8192, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},            // 4096 rows: 74.14 us, 3622 GB/s, 86 % of copy, rule 1.05x
    {4, 4, false, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 4}},                // 256 rows: 3.95 us, 100 GB/s, 36 % of copy, rule 1.01x
    {4, 4, false, false, 256, 512, {RowVariant::streamed, 0, 256, 1, 0, 2}},            // 256 rows: 4.18 us, 190 GB/s, 38 % of copy, rule 1.02x
    {4, 4, false, false, 512, 512, {RowVariant::ring, 2, 64, 1, 2, 4}},                 // 256 rows: 4.07 us, 388 GB/s, 41 % of copy, rule 1.25x
    {4, 4, false, false, 1024, 512, {RowVariant::ring, 2, 128, 1, 2, 3}},               // 256 rows: 4.85 us, 651 GB/s, 43 % of copy, rule 1.33x
    {4, 4, false, false, 1600, 512, {RowVariant::ring, 2, 256, 1, 2, 3}},               // 256 rows: 5.84 us, 845 GB/s, 44 % of copy, rule 1.19x
    {4, 4, false, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 7.53 us, 1258 GB/s, 50 % of copy, rule 1.15x
    {4, 4, false, false, 5120, 512, {RowVariant::ring, 4, 384, 1, 2, 1}},               // 256 rows: 10.11 us, 1562 GB/s, 52 % of copy, rule 1.01x
    {4, 4, false, false, 8192, 512, {RowVariant::ring, 6, 384, 1, 3, 1}},               // 256 rows: 13.78 us, 1833 GB/s, 55 % of copy, rule 1.02x
    {4, 4, false, false, 256, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 32768 rows: 28.58 us, 3532 GB/s, 93 % of copy, rule 1.01x
    {4, 4, false, false, 384, kAnyRows, {RowVariant::ring, 4, 384, 1, 3, 1}},           // 32768 rows: 41.66 us, 3631 GB/s, 94 % of copy, rule 1.03x
    {4, 4, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 16384 rows: 28.90 us, 3488 GB/s, 92 % of copy, rule 1.02x
    {4, 4, false, false, 768, kAnyRows, {RowVariant::ring, 2, 512, 1, 3, 1}},           // 16384 rows: 41.26 us, 3663 GB/s, 96 % of copy, rule 1.05x
    {4, 4, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 4}},          // 8192 rows: 28.84 us, 3493 GB/s, 92 % of copy, rule 1.10x
    {4, 4, false, false, 1280, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 3}},          // 8192 rows: 34.50 us, 3650 GB/s, 96 % of copy, rule 1.08x
    {4, 4, false, false, 2560, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 2}},          // 4096 rows: 36.24 us, 3474 GB/s, 91 % of copy, rule 1.08x
    {4, 4, false, false, 3072, kAnyRows, {RowVariant::ring, 4, 256, 1, 2, 2}},          // 4096 rows: 42.92 us, 3520 GB/s, 92 % of copy, rule 1.01x
    {4, 4, false, false, 5120, kAnyRows, {RowVariant::ring, 4, 384, 1, 2, 1}},          // 4096 rows: 66.17 us, 3805 GB/s, 98 % of copy, rule 1.01x
    {4, 4, false, false, 6144, kAnyRows, {RowVariant::ring, 4, 384, 1, 2, 2}},          // 4096 rows: 83.00 us, 3640 GB/s, 87 % of copy, rule 1.03x
    {4, 4, true, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                 // 256 rows: 4.01 us, 132 GB/s, 37 % of copy, rule 1.01x
    {4, 4, true, false, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 3}},                 // 256 rows: 4.25 us, 248 GB/s, 39 % of copy, rule 1.01x
    {4, 4, true, false, 512, 512, {RowVariant::ring, 2, 64, 1, 2, 4}},                  // 256 rows: 4.24 us, 496 GB/s, 43 % of copy, rule 1.24x
    {4, 4, true, false, 1024, 512, {RowVariant::ring, 2, 128, 1, 2, 3}},                // 256 rows: 5.15 us, 817 GB/s, 46 % of copy, rule 1.31x
    {4, 4, true, false, 1600, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                // 256 rows: 6.25 us, 1052 GB/s, 47 % of copy, rule 1.18x
    {4, 4, true, false, 2048, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},                // 256 rows: 6.49 us, 1296 GB/s, 52 % of copy, rule 1.24x
    {4, 4, true, false, 3072, 512, {RowVariant::ring, 2, 512, 1, 2, 1}},                // 256 rows: 8.35 us, 1512 GB/s, 54 % of copy, rule 1.16x
    {4, 4, true, false, 5120, 512, {RowVariant::ring, 4, 384, 1, 2, 1}},                // 256 rows: 11.74 us, 1791 GB/s, 56 % of copy, rule 1.01x
    {4, 4, true, false, 8192, 512, {RowVariant::ring, 6, 384, 1, 2, 1}},                // 256 rows: 15.32 us, 2197 GB/s, 60 % of copy, rule 1.02x
    {4, 4, true, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},            // 16384 rows: 36.42 us, 3689 GB/s, 97 % of copy, rule 1.02x
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},           // 8192 rows: 36.10 us, 3720 GB/s, 97 % of copy, rule 1.07x
    {4, 4, true, false, 2048, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 4096 rows: 36.49 us, 3680 GB/s, 90 % of copy, rule 1.08x
    {4, 4, true, false, 4096, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 68.83 us, 3901 GB/s, 93 % of copy, rule 1.03x
    {4, 4, true, false, 8192, kAnyRows, {RowVariant::ring, 4, 512, 1, 2, 1}},           // 4096 rows: 134.42 us, 3995 GB/s, 94 % of copy, the rule
    {4, 4, true, true, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                  // 256 rows: 4.48 us, 118 GB/s, 33 % of copy, rule 1.02x
    {4, 4, true, true, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                  // 256 rows: 4.83 us, 218 GB/s, 34 % of copy, rule 1.01x
    {4, 4, true, true, 512, 512, {RowVariant::ring, 2, 64, 1, 2, 4}},                   // 256 rows: 4.52 us, 466 GB/s, 40 % of copy, rule 1.33x
    {4, 4, true, true, 1024, 512, {RowVariant::ring, 2, 128, 1, 2, 4}},                 // 256 rows: 5.66 us, 744 GB/s, 42 % of copy, rule 1.41x
    {4, 4, true, true, 1280, 512, {RowVariant::ring, 2, 256, 1, 2, 3}},                 // 256 rows: 6.20 us, 849 GB/s, 42 % of copy, rule 1.35x
    {4, 4, true, true, 256, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},             // 32768 rows: 37.01 us, 3634 GB/s, 95 % of copy, rule 1.03x
    {4, 4, true, true, 384, kAnyRows, {RowVariant::ring, 4, 384, 1, 2, 1}},             // 32768 rows: 53.19 us, 3790 GB/s, 97 % of copy, rule 1.02x
    {4, 4, true, true, 1024, kAnyRows, {RowVariant::ring, 2, 128, 1, 2, 3}},            // 8192 rows: 36.86 us, 3644 GB/s, 95 % of copy, rule 1.09x
    {4, 4, true, true, 1280, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},            // 8192 rows: 44.87 us, 3741 GB/s, 97 % of copy, rule 1.10x
};
// clang-format on

}  // namespace lamina::kernels::tuning
