// The operator BoxConv2d of the domain box_convolution for onnxruntime, on its threads. onnxruntime loads this library by
// SessionOptions.register_custom_ops_library; to_onnx(..., custom_operators=True) writes files that need it.
//
//     output = BoxConv2d(input, boxes, scale?, shift?, residual?), attributes normalize, relu, stride: those of BoxForward
//
// All are float32. An optional input that is left out has an empty name.
#include <onnxruntime_c_api.h>
#include <stdlib.h>

#include "box_conv2d.h"

namespace {

constexpr uint32_t OLDEST_API = 17;  // of onnxruntime 1.17; all later ones have it
constexpr size_t INPUTS = 5;

struct Kernel {
  const OrtApi* api;
  int64_t normalize, relu, stride;
};

// Returns from the calling function if a step fails; the status says why.
#define TRY(call) \
  if (OrtStatus* status = (call)) return status

OrtStatus* refuse(const OrtApi* api, const char* message) { return api->CreateStatus(ORT_INVALID_ARGUMENT, message); }

struct Array {
  float* data = nullptr;
  size_t rank = 0;
  int64_t shape[4] = {};
  bool is(int64_t length) const { return rank == 1 && shape[0] == length; }
};

// Reads input number ``index``; ``data`` stays NULL if it is left out.
OrtStatus* read(const OrtApi* api, const OrtKernelContext* context, size_t index, Array* array) {
  const OrtValue* value = nullptr;
  TRY(api->KernelContext_GetInput(context, index, &value));
  if (!value) return nullptr;
  OrtTensorTypeAndShapeInfo* info;
  TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus* failed = api->GetDimensionsCount(info, &array->rank);
  if (!failed && array->rank <= 4) failed = api->GetDimensions(info, array->shape, array->rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  TRY(failed);
  void* data;
  TRY(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  array->data = static_cast<float*>(data);
  return nullptr;
}

// onnxruntime's parallel loop needs to know the operator's current call, which a BoxParallelFor cannot pass to it.
thread_local const Kernel* running;
thread_local const OrtKernelContext* running_in;

struct Loop {
  BoxBody body;
  void* context;
  int64_t begin, end, grain;
};

int32_t on_its_threads(int64_t begin, int64_t end, int64_t grain, BoxBody body, void* context) {
  Loop loop = {body, context, begin, end, grain > 1 ? grain : 1};
  const auto part = [](void* data, size_t index) {
    const Loop& all = *static_cast<Loop*>(data);
    const int64_t first = all.begin + int64_t(index) * all.grain, last = first + all.grain;
    all.body(first, last < all.end ? last : all.end, all.context);
  };
  const size_t parts = size_t((end - begin + loop.grain - 1) / loop.grain);
  if (OrtStatus* status = running->api->KernelContext_ParallelFor(running_in, part, parts, 0, &loop)) {
    running->api->ReleaseStatus(status);  // nothing was begun
    body(begin, end, context);
  }
  return 0;
}

OrtStatus* run(const Kernel& kernel, const OrtKernelContext* context, const BoxForward& call) {
  running = &kernel;
  running_in = context;
  if (box_forward(&call)) return kernel.api->CreateStatus(ORT_FAIL, "BoxConv2d: out of memory");
  return nullptr;
}

OrtStatus* ORT_API_CALL compute(void* op_kernel, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(op_kernel);
  const OrtApi* api = kernel.api;
  Array arrays[INPUTS];
  size_t given;
  TRY(api->KernelContext_GetInputCount(context, &given));
  for (size_t k = 0; k < given && k < INPUTS; ++k) TRY(read(api, context, k, &arrays[k]));
  const auto& [input, boxes, scale, shift, residual] = arrays;
  const int64_t *in = input.shape, *box = boxes.shape, channels = box[0] * box[1];
  if (input.rank != 4) return refuse(api, "BoxConv2d: input must have four dimensions");
  if (boxes.rank != 3 || box[2] != 4 || box[0] != in[1]) return refuse(api, "BoxConv2d: boxes must be (C, M, 4)");
  if ((scale.data && !scale.is(channels)) || (shift.data && !shift.is(channels)))
    return refuse(api, "BoxConv2d: scale and shift must be (C*M,)");
  const int64_t stride = kernel.stride;
  const int64_t out[4] = {in[0], channels, (in[2] + stride - 1) / stride, (in[3] + stride - 1) / stride};
  for (int k = 0; k < 4 && residual.data; ++k)
    if (residual.rank != 4 || residual.shape[k] != out[k])
      return refuse(api, "BoxConv2d: residual must have the output's shape, (B, C*M, H', W')");

  OrtValue* value;
  void* output;
  TRY(api->KernelContext_GetOutput(context, 0, out, 4, &value));
  TRY(api->GetTensorMutableData(value, &output));
  if (out[0] * out[1] * out[2] * out[3] == 0) return nullptr;
  double* edges = static_cast<double*>(malloc(sizeof(double) * size_t(4 * channels)));
  if (!edges) return api->CreateStatus(ORT_FAIL, "BoxConv2d: out of memory");
  for (int64_t k = 0; k < 4 * channels; ++k) edges[k] = boxes.data[k];

  BoxForward call = {};
  call.problem = {in[0], in[1], box[1], in[2], in[3], stride, BOX_FLOAT32, int32_t(kernel.normalize), 0, edges,
                  input.data, {in[1] * in[2] * in[3], in[2] * in[3], in[3], 1}, on_its_threads, 2};  // 2: more than one
  call.output = output;
  call.scale = scale.data;
  call.shift = shift.data;
  call.residual = residual.data;
  call.relu = int32_t(kernel.relu);
  OrtStatus* failed = run(kernel, context, call);
  free(edges);
  return failed;
}

OrtStatus* ORT_API_CALL create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** op_kernel) {
  Kernel kernel = {api, 0, 0, 0};
  TRY(api->KernelInfoGetAttribute_int64(info, "normalize", &kernel.normalize));
  TRY(api->KernelInfoGetAttribute_int64(info, "relu", &kernel.relu));
  TRY(api->KernelInfoGetAttribute_int64(info, "stride", &kernel.stride));
  if (kernel.stride < 1) return refuse(api, "BoxConv2d: stride must be at least 1");
  *op_kernel = malloc(sizeof(Kernel));
  if (!*op_kernel) return api->CreateStatus(ORT_FAIL, "BoxConv2d: out of memory");
  *static_cast<Kernel*>(*op_kernel) = kernel;
  return nullptr;
}

OrtCustomOp describe() {
  OrtCustomOp op = {};
  op.version = OLDEST_API;
  op.GetName = [](const OrtCustomOp*) { return "BoxConv2d"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
  op.GetInputTypeCount = [](const OrtCustomOp*) { return INPUTS; };
  op.GetInputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
    return index < 2 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = op.GetInputType;
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = free;
  return op;
}

const OrtCustomOp OPERATOR = describe();

}  // namespace

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

extern "C" EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(OLDEST_API);
  if (!api) return refuse(base->GetApi(1), "box_convolution's operator needs onnxruntime 1.17 or later");
  if (box_abi_version() != BOX_ABI_VERSION) return refuse(api, "box_convolution's libraries are of different versions");
  OrtCustomOpDomain* domain;  // must live as long as every session with these options: it is never released
  TRY(api->CreateCustomOpDomain("box_convolution", &domain));
  TRY(api->CustomOpDomain_Add(domain, &OPERATOR));
  return api->AddCustomOpDomain(options, domain);
}
