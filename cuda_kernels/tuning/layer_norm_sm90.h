// SPDX-License-Identifier: MIT
// Policies of the row kernels measured on NVIDIA H200, 2026-11-21, commit 09666c5.
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
    {2, 2, false, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                // 256 rows: 1.85 us, 286 GB/s, 83 % of copy, the rule
    {2, 2, false, false, 768, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                // 256 rows: 1.99 us, 399 GB/s, 82 % of copy, rule 1.31x
    {2, 2, false, false, 2048, 512, {RowVariant::held, 1, 256, 1, 0, 0}},               // 256 rows: 2.40 us, 878 GB/s, 77 % of copy, rule 1.31x
    {2, 2, false, false, 4096, 512, {RowVariant::held, 2, 256, 1, 0, 0}},               // 256 rows: 3.08 us, 1366 GB/s, 77 % of copy, rule 1.22x
    {2, 2, false, false, 12288, 512, {RowVariant::held, 3, 512, 1, 0, 0}},              // 256 rows: 5.37 us, 2355 GB/s, 85 % of copy, rule 1.06x
    {2, 2, false, false, 16384, 512, {RowVariant::held, 4, 512, 1, 0, 0}},              // 256 rows: 6.61 us, 2547 GB/s, 85 % of copy, the rule
    {2, 2, false, false, 20480, 512, {RowVariant::ring, 0, 512, 1, 2, 2}},              // 256 rows: 9.72 us, 2167 GB/s, 68 % of copy, rule 1.19x
    {2, 2, false, false, 32768, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 16.37 us, 2058 GB/s, 56 % of copy, rule 1.01x
    {2, 2, false, false, 49152, 512, {RowVariant::ring, 0, 512, 1, 2, 1}},              // 256 rows: 22.79 us, 2218 GB/s, 62 % of copy, the rule
    {2, 2, false, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 32.32 us, 2085 GB/s, 56 % of copy, rule 1.15x
    {2, 2, false, false, 128, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 131072 rows: 20.38 us, 3344 GB/s, 89 % of copy, rule 1.08x
    {2, 2, false, false, 256, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},           // 65536 rows: 20.10 us, 3365 GB/s, 90 % of copy, rule 1.09x
    {2, 2, false, false, 384, kAnyRows, {RowVariant::held, 3, 256, 1, 0, 0}},           // 65536 rows: 28.21 us, 3587 GB/s, 95 % of copy, rule 1.09x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 32768 rows: 19.98 us, 3372 GB/s, 90 % of copy, the rule
    {2, 2, false, false, 768, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},            // 32768 rows: 27.88 us, 3620 GB/s, 96 % of copy, rule 1.03x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::held, 4, 64, 1, 0, 0}},           // 16384 rows: 19.62 us, 3428 GB/s, 92 % of copy, rule 1.00x
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},           // 16384 rows: 24.08 us, 3489 GB/s, 94 % of copy, rule 1.11x
    {2, 2, false, false, 2560, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},          // 8192 rows: 24.52 us, 3424 GB/s, 92 % of copy, the rule
    {2, 2, false, false, 3072, kAnyRows, {RowVariant::held, 3, 128, 1, 0, 0}},          // 8192 rows: 27.31 us, 3689 GB/s, 98 % of copy, rule 1.02x
    {2, 2, false, false, 5120, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 24.42 us, 3437 GB/s, 93 % of copy, rule 1.00x
    {2, 2, false, false, 6144, kAnyRows, {RowVariant::held, 3, 256, 1, 0, 0}},          // 4096 rows: 28.27 us, 3562 GB/s, 89 % of copy, rule 1.01x
    {2, 2, false, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},         // 4096 rows: 73.06 us, 3676 GB/s, 88 % of copy, the rule
    {2, 2, false, false, 32768, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 2048 rows: 89.04 us, 3016 GB/s, 73 % of copy, rule 1.04x
    {2, 2, false, false, 49152, kAnyRows, {RowVariant::ring, 0, 512, 1, 2, 1}},         // 2048 rows: 133.71 us, 3013 GB/s, 72 % of copy, the rule
    {2, 2, false, false, 65536, kAnyRows, {RowVariant::streamed, 0, 256, 1, 0, 0}},     // 2048 rows: 216.30 us, 2483 GB/s, 59 % of copy, rule 1.25x
    {2, 2, true, false, 256, 512, {RowVariant::held, 1, 128, 1, 0, 0}},                 // 256 rows: 1.97 us, 268 GB/s, 77 % of copy, the rule
    {2, 2, true, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                 // 256 rows: 2.15 us, 491 GB/s, 78 % of copy, the rule
    {2, 2, true, false, 2560, 512, {RowVariant::held, 1, 512, 1, 0, 0}},                // 256 rows: 3.35 us, 1571 GB/s, 80 % of copy, rule 1.05x
    {2, 2, true, false, 4096, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 4.08 us, 2061 GB/s, 84 % of copy, rule 1.04x
    {2, 2, true, false, 5120, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 4.69 us, 2239 GB/s, 86 % of copy, rule 1.01x
    {2, 2, true, false, 8192, 512, {RowVariant::held, 2, 512, 1, 0, 0}},                // 256 rows: 6.00 us, 2801 GB/s, 94 % of copy, rule 1.01x
    {2, 2, true, false, 10240, 512, {RowVariant::held, 4, 512, 1, 0, 0}},               // 256 rows: 7.01 us, 2996 GB/s, 95 % of copy, the rule
    {2, 2, true, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 45.45 us, 2959 GB/s, 78 % of copy, rule 1.05x
    {2, 2, true, false, 64, kAnyRows, {RowVariant::held, 1, 256, 1, 0, 0}},             // 262144 rows: 36.37 us, 3748 GB/s, 98 % of copy, rule 1.01x
    {2, 2, true, false, 256, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},            // 65536 rows: 36.48 us, 3694 GB/s, 97 % of copy, rule 1.02x
    {2, 2, true, false, 1024, kAnyRows, {RowVariant::held, 4, 64, 1, 0, 0}},            // 16384 rows: 36.13 us, 3718 GB/s, 98 % of copy, rule 1.01x
    {2, 2, true, false, 5120, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},           // 4096 rows: 44.22 us, 3795 GB/s, 99 % of copy, rule 1.00x
    {2, 2, true, false, 10240, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 86.25 us, 3891 GB/s, 93 % of copy, the rule
    {2, 2, true, false, 12288, kAnyRows, {RowVariant::streamed, 0, 256, 1, 0, 0}},      // 4096 rows: 110.29 us, 3651 GB/s, 87 % of copy, rule 1.03x
    {2, 2, true, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 140.16 us, 3831 GB/s, 91 % of copy, the rule
    {2, 2, true, false, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},      // 2048 rows: 344.93 us, 3114 GB/s, 73 % of copy, rule 1.01x
    {4, 4, false, false, 128, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                // 256 rows: 1.66 us, 160 GB/s, 86 % of copy, rule 1.03x
    {4, 4, false, false, 256, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 1.88 us, 282 GB/s, 82 % of copy, rule 1.02x
    {4, 4, false, false, 1280, 512, {RowVariant::held, 1, 512, 1, 0, 0}},               // 256 rows: 2.68 us, 982 GB/s, 73 % of copy, rule 1.41x
    {4, 4, false, false, 3072, 512, {RowVariant::held, 2, 512, 1, 0, 0}},               // 256 rows: 3.93 us, 1607 GB/s, 74 % of copy, rule 1.27x
    {4, 4, false, false, 4096, 512, {RowVariant::held, 4, 256, 1, 0, 0}},               // 256 rows: 4.14 us, 2034 GB/s, 82 % of copy, rule 1.08x
    {4, 4, false, false, 6144, 512, {RowVariant::held, 3, 512, 1, 0, 0}},               // 256 rows: 6.51 us, 1940 GB/s, 70 % of copy, rule 1.25x
    {4, 4, false, false, 10240, 512, {RowVariant::ring, 0, 512, 1, 2, 2}},              // 256 rows: 9.48 us, 2220 GB/s, 70 % of copy, rule 1.02x
    {4, 4, false, false, 256, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},           // 32768 rows: 20.03 us, 3363 GB/s, 90 % of copy, rule 1.00x
    {4, 4, false, false, 512, kAnyRows, {RowVariant::held, 4, 64, 1, 0, 0}},            // 16384 rows: 20.28 us, 3316 GB/s, 89 % of copy, rule 1.00x
    {4, 4, false, false, 1280, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},          // 8192 rows: 23.84 us, 3522 GB/s, 95 % of copy, rule 1.09x
    {4, 4, false, false, 1600, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 8192 rows: 29.40 us, 3570 GB/s, 94 % of copy, rule 1.07x
    {4, 4, false, false, 2048, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},          // 4096 rows: 19.50 us, 3444 GB/s, 89 % of copy, rule 1.15x
    {4, 4, false, false, 8192, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 70.96 us, 3784 GB/s, 91 % of copy, rule 1.01x
    {4, 4, false, false, 10240, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},         // 4096 rows: 90.45 us, 3711 GB/s, 89 % of copy, the rule
    {4, 4, false, false, 12288, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 4096 rows: 118.42 us, 3401 GB/s, 81 % of copy, rule 1.03x
    {4, 4, false, false, 16384, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},         // 4096 rows: 145.68 us, 3687 GB/s, 88 % of copy, the rule
    {4, 4, false, false, 20480, kAnyRows, {RowVariant::ring, 0, 512, 1, 2, 1}},         // 2048 rows: 107.33 us, 3128 GB/s, 75 % of copy, the rule
    {4, 4, true, false, 128, 512, {RowVariant::held, 1, 128, 1, 0, 0}},                 // 256 rows: 1.84 us, 287 GB/s, 82 % of copy, the rule
    {4, 4, true, false, 256, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                 // 256 rows: 2.05 us, 513 GB/s, 81 % of copy, the rule
    {4, 4, true, false, 384, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                 // 256 rows: 2.24 us, 706 GB/s, 76 % of copy, rule 1.03x
    {4, 4, true, false, 1280, 512, {RowVariant::held, 1, 512, 1, 0, 0}},                // 256 rows: 3.24 us, 1620 GB/s, 82 % of copy, rule 1.24x
    {4, 4, true, false, 2048, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 3.86 us, 2178 GB/s, 88 % of copy, rule 1.17x
    {4, 4, true, false, 3072, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 4.78 us, 2636 GB/s, 96 % of copy, rule 1.13x
    {4, 4, true, false, 4096, 512, {RowVariant::held, 2, 512, 1, 0, 0}},                // 256 rows: 5.70 us, 2947 GB/s, 99 % of copy, rule 1.07x
    {4, 4, true, false, 6144, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 7.51 us, 3356 GB/s, 102 % of copy, rule 1.06x
    {4, 4, true, false, 8192, 512, {RowVariant::held, 4, 512, 1, 0, 0}},                // 256 rows: 9.72 us, 3458 GB/s, 95 % of copy, rule 1.02x
    {4, 4, true, false, 12288, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 15.73 us, 3207 GB/s, 90 % of copy, rule 1.02x
    {4, 4, true, false, 256, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},            // 32768 rows: 35.99 us, 3737 GB/s, 98 % of copy, the rule
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::held, 1, 256, 1, 0, 0}},           // 8192 rows: 35.57 us, 3775 GB/s, 93 % of copy, rule 1.02x
    {4, 4, true, false, 2560, kAnyRows, {RowVariant::held, 3, 256, 1, 0, 0}},           // 4096 rows: 43.90 us, 3823 GB/s, 100 % of copy, rule 1.01x
    {4, 4, true, false, 3072, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},           // 4096 rows: 52.30 us, 3851 GB/s, 94 % of copy, rule 1.01x
    {4, 4, true, false, 6144, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},           // 4096 rows: 103.17 us, 3904 GB/s, 93 % of copy, rule 1.00x
    {4, 4, true, false, 12288, kAnyRows, {RowVariant::held, 6, 512, 1, 0, 0}},          // 4096 rows: 205.64 us, 3917 GB/s, 93 % of copy, rule 1.00x
    {4, 4, true, false, 16384, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},          // 4096 rows: 272.19 us, 3945 GB/s, 101 % of copy, the rule
};

inline constexpr TunedRow kBackwardSm90[] = {
    {2, 2, false, false, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 4}},                // 256 rows: 3.57 us, 56 GB/s, 39 % of copy, rule 1.00x
    {2, 2, false, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 4}},                // 256 rows: 3.80 us, 104 GB/s, 39 % of copy, rule 1.00x
    {2, 2, false, false, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                // 256 rows: 4.10 us, 193 GB/s, 40 % of copy, rule 1.10x
    {2, 2, false, false, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 2}},               // 256 rows: 4.66 us, 339 GB/s, 37 % of copy, rule 1.13x
    {2, 2, false, false, 2048, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},               // 256 rows: 5.68 us, 556 GB/s, 37 % of copy, the rule
    {2, 2, false, false, 6144, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 9.48 us, 999 GB/s, 40 % of copy, rule 1.00x
    {2, 2, false, false, 10240, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},           // 256 rows: 12.95 us, 1220 GB/s, 41 % of copy, rule 1.07x
    {2, 2, false, false, 12288, 512, {RowVariant::cluster, 2, 256, 4, 3, 2}},           // 256 rows: 13.84 us, 1370 GB/s, 44 % of copy, rule 1.07x
    {2, 2, false, false, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},           // 256 rows: 22.44 us, 2252 GB/s, 63 % of copy, rule 1.04x
    {2, 2, false, false, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},           // 256 rows: 37.12 us, 2723 GB/s, 72 % of copy, rule 1.02x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 32768 rows: 29.70 us, 3398 GB/s, 90 % of copy, rule 1.15x
    {2, 2, false, false, 768, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},           // 32768 rows: 43.41 us, 3485 GB/s, 91 % of copy, rule 1.04x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 16384 rows: 30.22 us, 3336 GB/s, 88 % of copy, the rule
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 16384 rows: 38.67 us, 3258 GB/s, 86 % of copy, rule 1.08x
    {2, 2, false, false, 2048, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 8192 rows: 31.81 us, 3167 GB/s, 84 % of copy, the rule
    {2, 2, false, false, 2560, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 8192 rows: 37.44 us, 3363 GB/s, 89 % of copy, rule 1.09x
    {2, 2, false, false, 3072, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 8192 rows: 43.89 us, 3442 GB/s, 90 % of copy, rule 1.06x
    {2, 2, false, false, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 4096 rows: 56.35 us, 3574 GB/s, 87 % of copy, the rule
    {2, 2, false, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 4, 1}},      // 4096 rows: 103.16 us, 3904 GB/s, 93 % of copy, the rule
    {2, 2, false, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},      // 2048 rows: 110.87 us, 3634 GB/s, 87 % of copy, rule 1.00x
    {2, 2, false, false, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},      // 2048 rows: 226.14 us, 3563 GB/s, 84 % of copy, rule 1.01x
    {2, 2, true, false, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 4}},                 // 256 rows: 3.61 us, 73 GB/s, 40 % of copy, rule 0.99x
    {2, 2, true, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 2}},                 // 256 rows: 3.86 us, 137 GB/s, 39 % of copy, the rule
    {2, 2, true, false, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 2}},                 // 256 rows: 4.20 us, 251 GB/s, 40 % of copy, rule 1.08x
    {2, 2, true, false, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 2}},                // 256 rows: 4.84 us, 435 GB/s, 38 % of copy, rule 1.13x
    {2, 2, true, false, 2048, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                // 256 rows: 6.03 us, 698 GB/s, 40 % of copy, the rule
    {2, 2, true, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                // 256 rows: 7.40 us, 853 GB/s, 39 % of copy, rule 1.38x
    {2, 2, true, false, 4096, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},                // 256 rows: 8.05 us, 1045 GB/s, 42 % of copy, rule 1.44x
    {2, 2, true, false, 6144, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                // 256 rows: 10.41 us, 1213 GB/s, 44 % of copy, rule 1.18x
    {2, 2, true, false, 8192, 512, {RowVariant::cluster, 1, 512, 2, 3, 1}},             // 256 rows: 12.43 us, 1354 GB/s, 45 % of copy, rule 1.15x
    {2, 2, true, false, 16384, 512, {RowVariant::cluster, 1, 512, 4, 3, 1}},            // 256 rows: 17.28 us, 1947 GB/s, 53 % of copy, rule 1.13x
    {2, 2, true, false, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},            // 256 rows: 26.22 us, 2567 GB/s, 69 % of copy, rule 1.05x
    {2, 2, true, false, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},            // 256 rows: 42.30 us, 3182 GB/s, 84 % of copy, rule 1.03x
    {2, 2, true, false, 64, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},             // 262144 rows: 38.12 us, 3576 GB/s, 93 % of copy, the rule
    {2, 2, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 16384 rows: 38.01 us, 3535 GB/s, 93 % of copy, the rule
    {2, 2, true, false, 1600, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 16384 rows: 55.78 us, 3762 GB/s, 97 % of copy, rule 1.02x
    {2, 2, true, false, 3072, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},           // 8192 rows: 53.63 us, 3756 GB/s, 98 % of copy, rule 1.04x
    {2, 2, true, false, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 72.55 us, 3701 GB/s, 89 % of copy, the rule
    {2, 2, true, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},       // 4096 rows: 135.78 us, 3955 GB/s, 94 % of copy, rule 1.01x
    {2, 2, true, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},       // 2048 rows: 135.25 us, 3971 GB/s, 94 % of copy, rule 1.01x
    {2, 2, true, false, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},       // 2048 rows: 256.01 us, 4196 GB/s, 107 % of copy, rule 1.01x
    {2, 2, true, true, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                  // 256 rows: 3.94 us, 67 GB/s, 36 % of copy, rule 1.00x
    {2, 2, true, true, 256, 512, {RowVariant::ring, 1, 64, 1, 2, 4}},                   // 256 rows: 4.15 us, 127 GB/s, 36 % of copy, rule 1.00x
    {2, 2, true, true, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 4}},                  // 256 rows: 4.47 us, 236 GB/s, 37 % of copy, rule 1.08x
    {2, 2, true, true, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 3}},                 // 256 rows: 5.13 us, 411 GB/s, 36 % of copy, rule 1.33x
    {2, 2, true, true, 1280, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},                 // 256 rows: 5.89 us, 447 GB/s, 34 % of copy, rule 1.03x
    {2, 2, true, true, 1600, 512, {RowVariant::ring, 1, 512, 1, 2, 4}},                 // 256 rows: 6.34 us, 518 GB/s, 34 % of copy, rule 1.03x
    {2, 2, true, true, 3072, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},                 // 256 rows: 8.09 us, 781 GB/s, 36 % of copy, rule 1.54x
    {2, 2, true, true, 4096, 512, {RowVariant::ring, 1, 512, 1, 2, 1}},                 // 256 rows: 9.38 us, 897 GB/s, 36 % of copy, rule 1.46x
    {2, 2, true, true, 6144, 512, {RowVariant::cluster, 1, 512, 2, 3, 1}},              // 256 rows: 11.38 us, 1110 GB/s, 40 % of copy, rule 1.22x
    {2, 2, true, true, 16384, 512, {RowVariant::cluster, 1, 512, 4, 3, 1}},             // 256 rows: 18.29 us, 1840 GB/s, 50 % of copy, rule 1.18x
    {2, 2, true, true, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},             // 256 rows: 28.64 us, 2350 GB/s, 63 % of copy, rule 1.05x
    {2, 2, true, true, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},             // 256 rows: 45.56 us, 2955 GB/s, 78 % of copy, rule 1.03x
    {2, 2, true, true, 256, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},             // 65536 rows: 38.34 us, 3514 GB/s, 92 % of copy, the rule
    {2, 2, true, true, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},             // 32768 rows: 39.20 us, 3431 GB/s, 90 % of copy, rule 1.01x
    {2, 2, true, true, 768, kAnyRows, {RowVariant::ring, 3, 256, 1, 2, 1}},             // 32768 rows: 55.63 us, 3623 GB/s, 93 % of copy, rule 1.04x
    {2, 2, true, true, 1024, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},            // 16384 rows: 39.78 us, 3377 GB/s, 89 % of copy, rule 1.03x
    {2, 2, true, true, 1600, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 16384 rows: 58.66 us, 3577 GB/s, 92 % of copy, rule 1.01x
    {2, 2, true, true, 2048, kAnyRows, {RowVariant::ring, 2, 384, 1, 3, 1}},            // 8192 rows: 39.79 us, 3375 GB/s, 89 % of copy, rule 1.04x
    {2, 2, true, true, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 4096 rows: 75.48 us, 3558 GB/s, 85 % of copy, the rule
    {2, 2, true, true, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},        // 4096 rows: 137.47 us, 3906 GB/s, 93 % of copy, rule 1.01x
    {2, 2, true, true, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},        // 2048 rows: 137.54 us, 3905 GB/s, 92 % of copy, rule 1.01x
    {2, 2, true, true, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},        // 2048 rows: 258.90 us, 4149 GB/s, 106 % of copy, rule 1.00x
    {4, 4, false, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                // 256 rows: 4.02 us, 99 GB/s, 36 % of copy, rule 1.00x
    {4, 4, false, false, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 1}},                // 256 rows: 4.26 us, 186 GB/s, 38 % of copy, rule 1.00x
    {4, 4, false, false, 512, 512, {RowVariant::ring, 2, 128, 1, 3, 2}},                // 256 rows: 4.55 us, 347 GB/s, 38 % of copy, rule 1.08x
    {4, 4, false, false, 1280, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},               // 256 rows: 6.06 us, 651 GB/s, 38 % of copy, rule 1.27x
    {4, 4, false, false, 1600, 512, {RowVariant::ring, 2, 512, 1, 2, 1}},               // 256 rows: 6.40 us, 771 GB/s, 40 % of copy, rule 1.24x
    {4, 4, false, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 7.95 us, 1192 GB/s, 48 % of copy, rule 1.14x
    {4, 4, false, false, 4096, 512, {RowVariant::cluster, 2, 512, 2, 3, 2}},            // 256 rows: 9.03 us, 1399 GB/s, 51 % of copy, rule 1.17x
    {4, 4, false, false, 5120, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},            // 256 rows: 10.94 us, 1443 GB/s, 49 % of copy, rule 1.10x
    {4, 4, false, false, 6144, 512, {RowVariant::ring, 6, 384, 1, 2, 1}},               // 256 rows: 12.03 us, 1575 GB/s, 51 % of copy, rule 1.09x
    {4, 4, false, false, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},           // 256 rows: 20.01 us, 2526 GB/s, 71 % of copy, rule 1.10x
    {4, 4, false, false, 20480, 512, {RowVariant::cluster, 4, 512, 4, 3, 1}},           // 256 rows: 23.62 us, 2674 GB/s, 72 % of copy, the rule
    {4, 4, false, false, 65536, 512, {RowVariant::cluster, 4, 512, 8, 3, 1}},           // 256 rows: 58.31 us, 3466 GB/s, 90 % of copy, the rule
    {4, 4, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 16384 rows: 29.12 us, 3461 GB/s, 92 % of copy, the rule
    {4, 4, false, false, 768, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 16384 rows: 40.76 us, 3708 GB/s, 97 % of copy, rule 1.06x
    {4, 4, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 8192 rows: 29.25 us, 3444 GB/s, 91 % of copy, rule 1.10x
    {4, 4, false, false, 2048, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 4096 rows: 29.91 us, 3367 GB/s, 84 % of copy, rule 1.07x
    {4, 4, false, false, 2560, kAnyRows, {RowVariant::ring, 6, 256, 1, 2, 1}},          // 4096 rows: 37.10 us, 3393 GB/s, 90 % of copy, rule 1.03x
    {4, 4, false, false, 4096, kAnyRows, {RowVariant::cluster, 2, 256, 2, 3, 2}},       // 4096 rows: 53.30 us, 3779 GB/s, 92 % of copy, rule 1.05x
    {4, 4, false, false, 5120, kAnyRows, {RowVariant::ring, 4, 512, 1, 2, 1}},          // 4096 rows: 66.93 us, 3762 GB/s, 98 % of copy, the rule
    {4, 4, false, false, 6144, kAnyRows, {RowVariant::cluster, 2, 512, 2, 4, 1}},       // 4096 rows: 78.89 us, 3830 GB/s, 92 % of copy, rule 1.07x
    {4, 4, false, false, 10240, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 2}},      // 4096 rows: 134.44 us, 3745 GB/s, 89 % of copy, rule 1.00x
    {4, 4, false, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 4, 1}},      // 4096 rows: 193.09 us, 4172 GB/s, 99 % of copy, rule 1.10x
    {4, 4, false, false, 20480, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 1}},      // 2048 rows: 131.48 us, 3830 GB/s, 91 % of copy, the rule
    {4, 4, false, false, 65536, kAnyRows, {RowVariant::cluster, 4, 512, 8, 3, 1}},      // 2048 rows: 399.20 us, 4037 GB/s, 103 % of copy, the rule
    {4, 4, true, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                 // 256 rows: 4.09 us, 129 GB/s, 37 % of copy, rule 1.00x
    {4, 4, true, false, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                 // 256 rows: 4.31 us, 245 GB/s, 39 % of copy, the rule
    {4, 4, true, false, 512, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                 // 256 rows: 4.70 us, 448 GB/s, 39 % of copy, rule 1.09x
    {4, 4, true, false, 1024, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                // 256 rows: 5.57 us, 755 GB/s, 43 % of copy, rule 1.37x
    {4, 4, true, false, 1280, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},                // 256 rows: 6.40 us, 822 GB/s, 41 % of copy, rule 1.25x
    {4, 4, true, false, 1600, 512, {RowVariant::ring, 2, 512, 1, 3, 1}},                // 256 rows: 6.86 us, 959 GB/s, 43 % of copy, rule 1.21x
    {4, 4, true, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                // 256 rows: 8.91 us, 1417 GB/s, 51 % of copy, rule 1.16x
    {4, 4, true, false, 4096, 512, {RowVariant::ring, 2, 512, 1, 3, 1}},                // 256 rows: 10.25 us, 1642 GB/s, 54 % of copy, rule 1.16x
    {4, 4, true, false, 6144, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},             // 256 rows: 13.55 us, 1863 GB/s, 56 % of copy, rule 1.10x
    {4, 4, true, false, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},            // 256 rows: 24.50 us, 2748 GB/s, 74 % of copy, rule 1.67x
    {4, 4, true, false, 32768, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},            // 256 rows: 39.88 us, 3375 GB/s, 89 % of copy, rule 4.04x
    {4, 4, true, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 2}},           // 256 rows: 171.96 us, 1566 GB/s, 41 % of copy, rule 1.50x
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 8192 rows: 36.78 us, 3651 GB/s, 96 % of copy, rule 1.06x
    {4, 4, true, false, 4096, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 69.00 us, 3892 GB/s, 93 % of copy, rule 1.03x
    {4, 4, true, false, 8192, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},        // 4096 rows: 133.34 us, 4027 GB/s, 95 % of copy, rule 1.01x
    {4, 4, true, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 4, 1}},       // 4096 rows: 260.62 us, 4121 GB/s, 97 % of copy, rule 1.86x
    {4, 4, true, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},       // 2048 rows: 256.33 us, 4191 GB/s, 107 % of copy, rule 4.96x
    {4, 4, true, false, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 2}},      // 2048 rows: 1817.17 us, 1182 GB/s, 30 % of copy, rule 1.19x
    {4, 4, true, true, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                  // 256 rows: 4.87 us, 108 GB/s, 31 % of copy, rule 1.04x
    {4, 4, true, true, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 1}},                  // 256 rows: 5.09 us, 207 GB/s, 33 % of copy, rule 1.00x
    {4, 4, true, true, 512, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                  // 256 rows: 5.14 us, 410 GB/s, 36 % of copy, rule 1.13x
    {4, 4, true, true, 1024, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                 // 256 rows: 6.01 us, 700 GB/s, 40 % of copy, rule 1.57x
    {4, 4, true, true, 1280, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                 // 256 rows: 6.88 us, 764 GB/s, 38 % of copy, rule 1.41x
    {4, 4, true, true, 1600, 512, {RowVariant::ring, 2, 512, 1, 2, 2}},                 // 256 rows: 8.02 us, 820 GB/s, 37 % of copy, rule 1.25x
    {4, 4, true, true, 3072, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                 // 256 rows: 9.41 us, 1342 GB/s, 48 % of copy, rule 1.25x
    {4, 4, true, true, 6144, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},              // 256 rows: 14.31 us, 1764 GB/s, 53 % of copy, rule 1.14x
    {4, 4, true, true, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},             // 256 rows: 25.04 us, 2688 GB/s, 72 % of copy, rule 1.89x
    {4, 4, true, true, 32768, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},             // 256 rows: 41.28 us, 3261 GB/s, 86 % of copy, rule 4.90x
    {4, 4, true, true, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 2}},            // 256 rows: 213.10 us, 1263 GB/s, 33 % of copy, rule 1.50x
    {4, 4, true, true, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},             // 16384 rows: 37.54 us, 3579 GB/s, 94 % of copy, the rule
    {4, 4, true, true, 1280, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},            // 8192 rows: 46.06 us, 3644 GB/s, 95 % of copy, rule 1.09x
    {4, 4, true, true, 4096, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 4096 rows: 70.34 us, 3817 GB/s, 92 % of copy, rule 1.03x
    {4, 4, true, true, 8192, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},         // 4096 rows: 133.24 us, 4030 GB/s, 95 % of copy, rule 1.03x
    {4, 4, true, true, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 4, 1}},        // 4096 rows: 259.84 us, 4133 GB/s, 97 % of copy, rule 2.08x
    {4, 4, true, true, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 8, 4, 1}},        // 2048 rows: 259.72 us, 4136 GB/s, 106 % of copy, rule 5.73x
    {4, 4, true, true, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 2}},       // 2048 rows: 2370.42 us, 906 GB/s, 23 % of copy, rule 1.18x
};
// clang-format on

}  // namespace lamina::kernels::tuning
