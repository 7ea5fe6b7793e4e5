"""A user's program for several processes, whose network in DistributedDataParallel exists until Python ends."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from box_convolution import BoxConv2d
from boxconv.training import sync_batch_norm
from boxconv.training.distributed import init_distributed

with init_distributed() as context:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BoxConv2d(4, 2, 8, 8))
    sync_batch_norm.synchronise(network)
    wrapped = DistributedDataParallel(network)
    wrapped(torch.rand(2, 3, 8, 8)).sum().backward()
    context.all_gather(context.rank)
