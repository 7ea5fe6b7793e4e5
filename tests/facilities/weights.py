"""Operations on modules and their weights: copies, files, dtypes, parametrisations, pruning, averages."""

import copy
import io
import pickle
import warnings
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from box_convolution import BoxConv2d
from box_convolution.deploy import deploy

from .table import FEW, Case, facility, gradients, logits, training, twin

GROUP = "Modules and weights"


def _saved(value: Any, weights_only: bool) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@facility(GROUP, "`deepcopy` and `pickle`, trained afterwards")
def copies(case: Case) -> tuple[Any, Any]:
    made = [copy.deepcopy(case.network), pickle.loads(pickle.dumps(case.network))]
    got = [training(network, case.image) for network in made]
    alone = training(case.network, case.image)
    return got, [alone, alone]


@facility(GROUP, "`deepcopy` and `pickle` of deployed networks", subjects=FEW)
def deployed_copies(case: Case) -> tuple[Any, Any]:
    deployed = deploy(case.network)
    made = [copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed))]
    return [logits(network, case.other) for network in made], [logits(deployed, case.other)] * 2


@facility(GROUP, "`torch.save`, `torch.load(weights_only=True)` of the state dict, `assign=True`")
def state_dict(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(other.parameters()) * 0.5, other.parameters())
    other.load_state_dict(_saved(case.network.state_dict(), weights_only=True), assign=True)
    return logits(other, case.image), logits(case.network, case.image)


@facility(GROUP, "`torch.save` of the whole network, `weights_only=False`")
def whole(case: Case) -> tuple[Any, Any]:
    return logits(_saved(case.network, weights_only=False), case.image), logits(case.network, case.image)


@facility(GROUP, "shared with other processes: `share_memory`, the `file_system` strategy")
def shared(case: Case) -> tuple[Any, Any]:
    strategy = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        received = pickle.loads(ForkingPickler.dumps(twin(case.network).share_memory()))
    finally:
        torch.multiprocessing.set_sharing_strategy(strategy)
    return logits(received, case.image), logits(case.network, case.image)


@facility(GROUP, "`.to(memory_format=torch.channels_last)`, training")
def channels_last(case: Case) -> tuple[Any, Any]:
    other = twin(case.network).to(memory_format=torch.channels_last)
    image = case.image.contiguous(memory_format=torch.channels_last)
    return training(other, image), training(case.network, case.image)


@facility(GROUP, "`.bfloat16()` and `.half()`, which round the boxes, too: close to the network in float32")
def half(case: Case) -> tuple[Any, Any]:
    expected = logits(case.network, case.image)[0]
    found = []
    for dtype in (torch.bfloat16, torch.float16):
        output = logits(twin(case.network).to(dtype), case.image.to(dtype))[0]
        near = nn.functional.cosine_similarity(output.float().flatten(), expected.flatten(), dim=0) > 0.95
        found.append(output.dtype == dtype and bool(near))
    return found, [True, True]


class _Identity(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value.clone()


@facility(GROUP, "`register_parametrization` on boxes and all convolutions")
def parametrised(case: Case) -> tuple[Any, Any]:
    expected = gradients(twin(case.network), case.image)
    for module in list(case.network.modules()):
        if isinstance(module, BoxConv2d):
            parametrize.register_parametrization(module, "scaled_boxes", _Identity())
        elif isinstance(module, nn.Conv2d):
            parametrize.register_parametrization(module, "weight", _Identity())
    return gradients(case.network, case.image)[:2], expected[:2]


@facility(GROUP, "`parametrizations.weight_norm` on all convolutions, baked in afterwards")
def weight_norm(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    convolutions = [module for module in other.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        parametrizations.weight_norm(module)
    got = gradients(other, case.image)[:2]
    for module in convolutions:
        parametrize.remove_parametrizations(module, "weight")
    return [*got, *logits(other, case.image)], [
        *gradients(case.network, case.image)[:2],
        *logits(case.network, case.image),
    ]


@facility(GROUP, "`nn.utils.prune` of convolutions: same result as weights set to zero", subjects=FEW[1:])
def pruned(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    for module in case.network.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.3)
    with torch.no_grad():
        for module, theirs in zip(other.modules(), case.network.modules(), strict=True):
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(theirs.weight_mask)
    return gradients(case.network, case.image)[:2], gradients(other, case.image)[:2]


@facility(GROUP, "`AveragedModel`, plain and exponential: averages of two networks")
def averaged(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    means = [AveragedModel(case.network), AveragedModel(case.network, multi_avg_fn=get_ema_multi_avg_fn(0.5))]
    for mean in means:
        mean.update_parameters(case.network)
    before = [weight.detach().clone() for weight in case.network.parameters()]
    with torch.no_grad():
        for weight in case.network.parameters():
            weight.mul_(0.5)
        for weight, start in zip(other.parameters(), before, strict=True):
            weight.copy_(0.75 * start)
    for mean in means:
        mean.update_parameters(case.network)
    return [logits(mean.eval(), case.image) for mean in means], [logits(other, case.image)] * 2


@facility(GROUP, "`SyncBatchNorm.convert_sync_batchnorm`, in evaluation")
def sync_batch_norm(case: Case) -> tuple[Any, Any]:
    other = nn.SyncBatchNorm.convert_sync_batchnorm(twin(case.network))
    return logits(other, case.image), logits(case.network, case.image)


@facility(
    GROUP,
    "`SyncBatchNorm` in training, one process (over several, PyTorch has it for GPUs; `boxconv train` for CPUs too)",
    subjects=FEW[1:],
)
def sync_batch_norm_training(case: Case) -> tuple[Any, Any]:
    other = nn.SyncBatchNorm.convert_sync_batchnorm(twin(case.network))
    return training(other, case.image), training(case.network, case.image)


@facility(
    GROUP, "dynamic int8 (`torch.ao.quantization.quantize_dynamic`): leaves convolutions as they are", subjects=FEW
)
def dynamic_int8(case: Case) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(case.network, {nn.Linear}, dtype=torch.qint8)
    return logits(quantised, case.image), logits(case.network, case.image)
