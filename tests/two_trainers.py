"""The program of each of two processes for `test_sharded_training.py`. RANK etc. are set; the argument is a folder.

Every case trains a network with boxes on half of each batch, in one of PyTorch's ways to distribute or copy weights.
"""

import copy
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, Optimizer

from box_convolution import BoxConv2d, project_boxes
from box_convolution.sharded import whole

STEPS, SIZE = 3, 12
CPU = torch.device("cpu")


def network() -> nn.Sequential:
    """A network with boxes of 3 channels and of 1 channel: for 2 processes, uneven shards and an empty one."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 3, 1),
        BoxConv2d(3, 2, SIZE, SIZE),
        nn.Conv2d(6, 1, 1),
        BoxConv2d(1, 3, SIZE, SIZE, symmetric=True),
        nn.Conv2d(3, 2, 1),
    )


def layers(net: nn.Module) -> list[BoxConv2d]:
    return [module for module in net.modules() if isinstance(module, BoxConv2d)]


def sgd(net: nn.Module, **options: bool) -> Optimizer:
    return SGD(net.parameters(), lr=5.0, momentum=0.5, **options)


def adam(net: nn.Module, **options: bool) -> Optimizer:
    return Adam(net.parameters(), lr=0.5, eps=1e-2, **options)


def fsdp1(net: nn.Module, **options: object) -> nn.Module:
    return FullyShardedDataParallel(net, device_id=CPU, **options)  # type: ignore[arg-type]


def fsdp2(net: nn.Module, mesh: DeviceMesh, *, each: bool = False, dim: int = 0) -> nn.Module:
    def placement(parameter: nn.Parameter) -> Shard:
        return Shard(dim if parameter.shape[2:] == (4,) else 0)  # only even pieces of this dimension are supported

    if each:
        for child in net:  # type: ignore[attr-defined]
            fully_shard(child, mesh=mesh, shard_placement_fn=placement)
    fully_shard(net, mesh=mesh, shard_placement_fn=placement)
    return net


def replicated(net: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Make the boxes DTensors that are complete in every process, as with tensor parallelism."""
    for layer in layers(net):
        layer.scaled_boxes = nn.Parameter(distribute_tensor(layer.scaled_boxes.detach(), mesh, [Replicate()]))
    return net


class MasterCopies(SGD):
    """An optimiser, of a common kind, that updates float32 copies of bfloat16 weights and copies them back."""

    def __init__(self, net: nn.Module) -> None:
        self.weights = list(net.parameters())
        super().__init__([weight.detach().float().requires_grad_() for weight in self.weights], lr=5.0)

    def gradients(self) -> None:
        for copied, weight in zip(self.param_groups[0]["params"], self.weights, strict=True):
            copied.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None

    @torch.no_grad()
    def copy_back(self) -> None:
        for copied, weight in zip(self.param_groups[0]["params"], self.weights, strict=True):
            weight.copy_(copied)


@dataclass
class Case:
    spread: Callable[[nn.Module, DeviceMesh], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer] = sgd
    alone: Callable[[nn.Module], Optimizer] | None = None
    """The optimiser for the single process, if it differs."""
    project: bool = False
    """Call `project_boxes` after each step."""
    dtype: torch.dtype = torch.float32
    halves: bool = True
    """Each process gets half of the batch; if False all of it, as in tensor parallelism."""


def ddp(net: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return DistributedDataParallel(net)


CASES = {
    "DDP": Case(ddp),
    "DDP, foreach": Case(ddp, lambda net: adam(net, foreach=True), adam),
    "DDP, fused": Case(ddp, lambda net: adam(net, fused=True), adam),
    "DDP, bfloat16": Case(ddp, dtype=torch.bfloat16),
    "DDP, master copies": Case(ddp, MasterCopies, dtype=torch.bfloat16),
    "ZeRO": Case(ddp, lambda net: ZeroRedundancyOptimizer(net.parameters(), SGD, lr=5.0, momentum=0.5), sgd),
    "FSDP2": Case(fsdp2),
    "FSDP2, each module": Case(lambda net, mesh: fsdp2(net, mesh, each=True)),
    "FSDP2, foreach": Case(fsdp2, lambda net: adam(net, foreach=True), adam),
    "FSDP2, fused": Case(fsdp2, lambda net: adam(net, fused=True), adam),
    "FSDP2, boxes cut": Case(lambda net, mesh: fsdp2(net, mesh, dim=2)),
    "DTensor, replicated": Case(replicated, halves=False),
    "FSDP1, not sharded": Case(
        lambda net, mesh: fsdp1(net, use_orig_params=True, sharding_strategy=ShardingStrategy.NO_SHARD)
    ),
    "FSDP1, original parameters": Case(lambda net, mesh: fsdp1(net, use_orig_params=True), project=True),
    "FSDP1, flat parameters": Case(lambda net, mesh: fsdp1(net), project=True),
}


if not hasattr(torch.cpu.Stream, "record_event"):  # PyTorch 2.6, whose FSDP2 shards on GPUs only
    CASES = {name: case for name, case in CASES.items() if not name.startswith("FSDP2")}


def stored(net: nn.Module) -> list[Tensor]:
    """Edges of the stored boxes in pixels, without the projection that reading them applies."""
    if isinstance(net, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(net, writeback=False), torch.no_grad():
            return [layer._pixels(layer.scaled_boxes).clone() for layer in layers(net)]
    with torch.no_grad():
        return [layer._pixels(whole(layer.scaled_boxes)).clone() for layer in layers(net)]


def train(net: nn.Module, optimizer: Optimizer, mine: slice, case: Case, *, project: bool) -> list[list[Tensor]]:
    """Train; returns the stored boxes after every step."""
    after = []
    for step in range(STEPS):
        images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(step)).to(case.dtype)
        optimizer.zero_grad()
        net(images[mine]).float().square().mean().backward()
        if isinstance(optimizer, MasterCopies):
            optimizer.gradients()
        optimizer.step()
        if isinstance(optimizer, MasterCopies):
            optimizer.copy_back()
        if project:
            project_boxes(net)
        after.append(stored(net))
    return after


def run(case: Case, mesh: DeviceMesh, *, project: bool) -> dict[str, object]:
    net = network().to(case.dtype)
    alone = copy.deepcopy(net)
    one = train(alone, (case.alone or case.optimizer)(alone), slice(0, 4), case, project=False)
    spread = case.spread(net, mesh)
    mine = slice(2 * mesh.get_rank(), 2 * mesh.get_rank() + 2) if case.halves else slice(0, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        two = train(spread, case.optimizer(spread), mine, case, project=project)
    return {"one": one, "two": two, "warnings": [str(each.message) for each in caught]}


def on_shards(mesh: DeviceMesh) -> dict[str, object]:
    """Results of methods of a layer while its weights are sharded."""
    with torch.device("meta"):
        net = nn.Sequential(BoxConv2d(3, 2, SIZE, SIZE), BoxConv2d(1, 3, SIZE, SIZE, symmetric=True))
    fully_shard(net, mesh=mesh).to_empty(device="cpu")
    torch.manual_seed(mesh.get_rank())  # those of rank 0 count
    found: dict[str, object] = {}
    for layer in layers(net):
        layer.reset_parameters()
    found["reset"] = [layer.boxes.detach().clone() for layer in layers(net)]
    for layer in layers(net):
        layer.set_boxes(torch.tensor([-2.0, 3.25, -4.25, 4.25]).expand(layer.in_channels, layer.num_filters, 4))
    found["set"] = [layer.boxes.detach().clone() for layer in layers(net)]
    found["snapped"] = [layer.snap_().boxes.detach().clone() for layer in layers(net)]
    return found


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    found = {name: run(case, mesh, project=case.project) for name, case in CASES.items()}
    found |= {f"{name}, not called": run(case, mesh, project=False) for name, case in CASES.items() if case.project}
    found["on shards"] = on_shards(mesh)
    torch.save(found, Path(sys.argv[1]) / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()
    # The threads of gloo live as long as a mesh or a wrapped network refers to their group, and one that frees a tensor
    # while Python shuts down aborts the process. That is PyTorch's fault, and not what is tested here.
    os._exit(0)


if __name__ == "__main__":
    main()
