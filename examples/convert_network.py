"""A network with dilated convolutions, and the same one with boxes in their place, trained on drawn road scenes.

    python examples/convert_network.py            # some twenty minutes on a CPU; --steps 10 to see it work
    python examples/convert_network.py --chain    # the context module without connections past its convolutions

Prints what `replace_dilated` did, and the scores of both networks after the same number of steps on the same scenes.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from box_convolution.convert import replace_dilated
from boxconv.data.class_table import VOID
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import EvalTransform
from boxconv.training.evaluation import evaluate, score_table

SIZE = (96, 192)


def conv(channels_in: int, channels_out: int, **options: int) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=options.get("dilation", 1), bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class Residual(nn.Sequential):
    """Adds its input to its output, so that detail gets past the layers in it."""

    def forward(self, image: Tensor) -> Tensor:
        total: Tensor = image + super().forward(image)
        return total


class DilatedNetwork(nn.Module):
    """Three halvings, then convolutions of growing dilation: the context module of Yu and Koltun (2016).

    With ``chain`` as they wrote it, else with a residual connection past each convolution.
    """

    def __init__(self, num_classes: int, *, chain: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2), conv(32, 64, stride=2))
        layers = [conv(64, 64, dilation=dilation) for dilation in (1, 2, 4, 8, 16)]
        self.context = nn.Sequential(*(layers if chain else map(Residual, layers)))
        self.head = nn.Conv2d(64, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.context(self.encoder(image)))
        return interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def train(network: nn.Module, scenes: RoadScenes, steps: int, batch_size: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    for step in range(steps):
        pairs = [scenes[step, index] for index in range(batch_size)]
        images, labels = (torch.stack([torch.as_tensor(pair[i]) for pair in pairs]) for i in (0, 1))
        loss = cross_entropy(network(images), labels.long(), ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"  step {step:4d}  loss {loss.item():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=64, help="for validation")
    parser.add_argument("--chain", action="store_true", help="no residual connections: boxes then blur everything")
    args = parser.parse_args()
    transform = EvalTransform(SIZE)
    scenes = RoadScenes(args.batch_size, SIZE, transform=transform)
    validation = RoadScenes(args.scenes, SIZE, split="val", transform=transform)

    torch.manual_seed(0)
    original = DilatedNetwork(len(scenes.classes), chain=args.chain)
    converted, report = replace_dilated(original, SIZE, reparametrization_factor=1.0)
    print(report)
    for name, network in (("original", original), ("with boxes", converted)):
        print(f"\n{name}")
        train(network.train(), scenes, args.steps, args.batch_size)
        scores = evaluate(network, validation, scenes.classes).scores(scenes.classes)
        print(score_table(scores))


if __name__ == "__main__":
    main()
