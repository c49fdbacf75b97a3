// SPDX-License-Identifier: MIT
// Everything that builds and trains a model.
#pragma once

#include "autograd/ops.h"
#include "nn/attention.h"
#include "nn/dropout.h"
#include "nn/embedding.h"
#include "nn/layer_norm.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/module.h"
#include "nn/optim/adamw.h"
#include "nn/optim/schedule.h"
#include "nn/rms_norm.h"
#include "nn/safetensors.h"
#include "nn/state_dict.h"
