// A parallel loop for callers that pass none. PyTorch has one to pass since version 2.10.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

namespace box {

// How many threads ``fan_out`` may use when this thread calls it.
extern thread_local int32_t fan_out_threads;

// A BoxParallelFor. Its threads live for one loop: that costs some 20 us a thread, but no thread is left that a fork could
// break. If the system grants no thread, the calling one does the work.
int32_t fan_out(int64_t begin, int64_t end, int64_t grain, BoxBody body, void* context);

}  // namespace box
