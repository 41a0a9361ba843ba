// What collectives and the reduction of gradients share.
#pragma once

#include "shim.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
};
