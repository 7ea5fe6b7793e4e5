"""One training step: forward and backward in parts, in mixed precision, in several processes, then one update."""

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import sync_batch_norm
from .config import TrainConfig
from .device import TrainingError, is_out_of_memory
from .distributed import DistributedContext, explained
from .evaluation import most_likely
from .losses import BatchLoss
from .optimizer import create_optimizer, set_learning_rate

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class LossNotFinite(TrainingError):
    """The loss of a step is infinite or NaN; the weights are still those from before the step."""


class TrainStep:
    """Takes training steps with ``model``, which it moves to ``device``.

    For any number of parts and processes, the gradient is that of the loss of the whole batch. Only the statistics of
    batch normalisation are those of each part in one process, or in all processes with `config.sync_bn`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        class_weight: Tensor,
        device: torch.device,
        context: DistributedContext,
    ) -> None:
        self.device, self.context, self.seed = device, context, config.seed
        self.loss, self.clip = BatchLoss(config.loss, class_weight.to(device)), config.clip
        self.model = model.to(device)
        self.optimizer = create_optimizer(model, config)
        self.amp = AMP_TYPES.get(config.amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
        # An average of valid boxes is a valid box. Buffers are averaged because they hold BatchNorm's statistics.
        self.average = (
            None
            if config.ema is None
            else AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        )
        self.parallel: DistributedDataParallel | None = None
        if context.world_size > 1:
            if config.sync_bn:
                sync_batch_norm.synchronise(model)
            with explained():
                self.parallel = DistributedDataParallel(
                    model, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
                )
        self.forward: Callable[[Tensor], Tensor] = self.parallel or model
        if config.compile:
            torch.compiler.reset()  # earlier compilations count towards a limit, above which nothing is compiled
            # Not dynamic: the last batch of an epoch, which is smaller, gets code of its own; the others' stays fast.
            self.forward = torch.compile(self.forward, dynamic=False)

    def seed_step(self, epoch: int, step: int) -> None:
        """Seed torch with the seed, epoch, step and rank, so that checkpoints need not store the generator's state."""
        numbers = repr((self.seed, epoch, step, self.context.rank)).encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(numbers, digest_size=7).digest(), "little"))

    def step(
        self, parts: Sequence[tuple[Tensor, Tensor, bool]], rate: float, flags: Sequence[float] = ()
    ) -> tuple[float, list[tuple[Tensor, Tensor]], list[list[float]]]:
        """Update the weights once.

        Args:
            parts: for each part, images (B, channels, h, w), labels (B, h, w), and whether they count (`Part`).
            rate: learning rate.
            flags: numbers to send to all processes.

        Returns:
            Loss of the whole batch; predictions and labels, both (B, h, w), of the parts that count; and the flags of
            every process.

        Raises:
            LossNotFinite: the weights are unchanged then.
            TrainingError: memory runs out, or the network cannot be compiled.
            DistributedError: another process is gone.
        """
        try:
            return self._step(parts, rate, flags)
        except (RuntimeError, MemoryError) as error:
            if _is_from_compiler(error):
                reason = _first_line(getattr(error, "inner_exception", error))
                raise TrainingError(
                    f"--compile: torch.compile failed ({reason}); on CPUs it needs a C++ compiler; --no-compile trains "
                    "without it"
                ) from error
            if not is_out_of_memory(error):
                raise
            shape = " x ".join(map(str, parts[0][0].shape))
            raise TrainingError(
                f"out of memory on {self.device} with images of {shape}: try --accumulate (the same batch in parts), a "
                f"smaller --batch-size, --crop or --size ({_first_line(error)})"
            ) from error

    def _step(
        self, parts: Sequence[tuple[Tensor, Tensor, bool]], rate: float, flags: Sequence[float]
    ) -> tuple[float, list[tuple[Tensor, Tensor]], list[list[float]]]:
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        there = [(images.to(self.device), labels.to(self.device), counted) for images, labels, counted in parts]
        sizes = [[size * counted for size in self.loss.sizes(labels)] for _, labels, counted in there]
        batch = [self.context.sum(torch.stack(parts).sum()) for parts in zip(*sizes, strict=True)]
        value = 0.0
        results: list[tuple[Tensor, Tensor]] = []
        for i, (images, labels, counted) in enumerate(there):
            with ExitStack() as stack:
                if self.parallel is not None and i + 1 < len(there):
                    stack.enter_context(self.parallel.no_sync())
                with torch.autocast(self.device.type, self.amp) if self.amp else nullcontext():
                    logits = self.forward(images)
                loss = self.loss(logits, labels, batch) * counted
                value += loss.item()
                # DDP averages gradients over the processes, but the loss of the batch is a sum over them.
                with explained():
                    self.scaler.scale(
                        loss * self.context.world_size if self.context.world_size > 1 else loss
                    ).backward()
            if counted:
                results.append((most_likely(logits.detach()), labels))
        every = self.context.all_gather(value, *flags)
        value = sum(row[0] for row in every)
        if not math.isfinite(value):
            raise LossNotFinite(f"the loss is {value}")
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return value, results, [row[1:] for row in every]

    def state(self) -> dict[str, Any]:
        """What a resume needs besides the weights: the states of optimiser, loss scaler and averaged weights."""
        average = {} if self.average is None else {"average": self.average.state_dict()}
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), **average}

    def restore(self, model_state: dict[str, Any], state: dict[str, Any]) -> None:
        """Restore the model's state dict and the result of `state`."""
        self.model.load_state_dict(model_state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def finite(self) -> bool:
        """Whether all weights and statistics are finite, also the averaged ones."""
        models = [self.model] if self.average is None else [self.model, self.average]
        return all(bool(value.isfinite().all()) for model in models for value in model.state_dict().values())

    @property
    def decisive(self) -> nn.Module:
        """The network whose scores decide: that with the averaged weights, if `config.ema` is set."""
        return self.model if self.average is None else self.average.module


def _is_from_compiler(error: BaseException) -> bool:
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
