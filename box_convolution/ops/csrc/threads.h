// A parallel loop for callers that bring none: PyTorch lends its own from 2.10 on.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

namespace box {

// How many threads ``fan_out`` may use when this thread calls it.
extern thread_local int32_t fan_out_threads;

// A BoxParallelFor. Its threads live for one loop: that costs some 20 us a thread, and leaves nothing behind that a fork
// could break. Where the system grants no thread, the caller's does the work.
int32_t fan_out(int64_t begin, int64_t end, int64_t grain, BoxBody body, void* context);

}  // namespace box
