// Runs cases of the operator that tests/arm64.py wrote to stdin, and writes the results to stdout: no Python needed.
//
// A case: 16 int64 (see Header), the boxes, the input's memory and, backward, the incoming gradient, contiguous.
// A result: BoxStatus as an int64 and the output; or the gradients by input and by boxes. The first line names the instruction set.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../box_convolution/ops/csrc/box_conv2d.h"

namespace {

struct Header {
  int64_t backward, batch, channels, per_channel, h, w, stride, dtype, normalize, exact, strides[4], elements, pixels;
};

template <class T>
std::vector<T> take(int64_t count) {
  std::vector<T> data(static_cast<size_t>(count) + 1);  // never without memory
  if (std::fread(data.data(), sizeof(T), static_cast<size_t>(count), stdin) != static_cast<size_t>(count)) std::exit(3);
  return data;
}

template <class T>
void give(const std::vector<T>& data, int64_t count) {
  if (std::fwrite(data.data(), sizeof(T), static_cast<size_t>(count), stdout) != static_cast<size_t>(count)) std::exit(4);
}

void run(const Header& head) {
  const int64_t size = head.dtype == BOX_FLOAT64 ? 8 : head.dtype == BOX_FLOAT32 ? 4 : 2;
  const auto boxes = take<double>(head.channels * head.per_channel * 4);
  const auto input = take<char>(head.elements * size);
  BoxProblem problem = {head.batch, head.channels, head.per_channel, head.h, head.w, head.stride,
                        static_cast<int32_t>(head.dtype), static_cast<int32_t>(head.normalize),
                        static_cast<int32_t>(head.exact), boxes.data(), input.data(), {}, nullptr, 2};
  for (int axis = 0; axis < 4; ++axis) problem.input_strides[axis] = head.strides[axis];
  const int64_t h_out = (head.h + head.stride - 1) / head.stride, w_out = (head.w + head.stride - 1) / head.stride;
  const int64_t outputs = head.batch * head.channels * head.per_channel * h_out * w_out;
  if (!head.backward) {
    std::vector<char> output(static_cast<size_t>(outputs * size) + 1);
    const BoxForward call = {problem, output.data(), nullptr, nullptr, nullptr, 0, static_cast<int32_t>(head.pixels)};
    const std::vector<int64_t> status(1, box_forward(&call));
    give(status, 1);
    if (status[0] == BOX_DONE) give(output, outputs * size);
    return;
  }
  const auto grad = take<char>(outputs * size);
  std::vector<char> grad_input(static_cast<size_t>(head.batch * head.channels * head.h * head.w * size) + 1);
  std::vector<double> grad_boxes(boxes.size());
  const BoxBackward call = {problem, grad.data(),
                            {head.channels * head.per_channel * h_out * w_out, h_out * w_out, w_out, 1},
                            grad_input.data(), grad_boxes.data()};
  if (box_backward(&call) != BOX_DONE) std::exit(5);
  give(grad_input, head.batch * head.channels * head.h * head.w * size);
  give(grad_boxes, head.channels * head.per_channel * 4);
}

}  // namespace

int main() {
  std::printf("%s\n", box_isa());
  Header head;
  while (std::fread(&head, sizeof head, 1, stdin) == 1) run(head);
  return std::fflush(stdout) ? 4 : 0;
}
