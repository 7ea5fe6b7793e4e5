"""BoxConv2d in a network of your own: one layer that sees the whole image.

    python examples/own_network.py

The task cannot be solved without far context: the network must say at every pixel whether the image is brighter on the
left than on the right.
"""

import torch
from torch import nn

from box_convolution import BoxConv2d

H, W = 24, 48


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise images (B, 1, H, W), one half a little brighter, and the answer at every pixel (B, 1, H, W)."""
    left = torch.randint(2, (size, 1, 1, 1)).float()
    half = (torch.arange(W) < W // 2).float()
    image = torch.randn(size, 1, H, W) + 0.2 * (left * half + (1 - left) * (1 - half))
    return image, left.expand(size, 1, H, W)


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 1),
        BoxConv2d(8, 4, max_input_h=H, max_input_w=W, reparametrization_factor=1.0),  # 8 channels -> 32
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)  # each step also moves boxes back into their limits
    for step in range(301):
        image, answer = batch(16)
        loss = nn.functional.binary_cross_entropy_with_logits(model(image), answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:3d}  loss {loss.item():.3f}")

    image, answer = batch(200)
    with torch.inference_mode():
        right = ((model.eval()(image) > 0) == (answer > 0.5)).float().mean()
    print(f"pixels answered correctly: {right:.1%}")
    print("one box, in pixels (top, bottom, left, right):", [round(edge, 1) for edge in model[1].boxes[0, 0].tolist()])


if __name__ == "__main__":
    main()
