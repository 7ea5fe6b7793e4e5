"""`boxconv evaluate`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..segmentation.config import DataConfig, UsageError
from .load import network_of

if TYPE_CHECKING:
    from ..segmentation.distributed import Team


@dataclass(frozen=True)
class Evaluate:
    """Score a checkpoint on a data set."""

    checkpoint: tyro.conf.Positional[Path]
    root: Path | None = None
    """Folder with images/ and labels/; the one it was trained on if left out."""
    split: str | None = None
    """Name of the split; the validation split of the training run if left out."""
    full_resolution: bool = False
    """Compare with the labels at the size they have in their files, not at the network's."""
    batch_size: int = 8
    workers: int = 0
    """Processes that load images; with 0, a thread loads the next ones while the network computes."""
    device: str = "auto"
    json: Path | None = None
    """Also write the scores and the confusion matrix here."""
    quiet: bool = False


def run(args: Evaluate) -> None:
    from ..segmentation.distributed import joined

    if args.batch_size < 1:
        raise UsageError(f"--batch-size: expected at least 1, got {args.batch_size}")
    if args.workers < 0:
        raise UsageError(f"--workers: expected at least 0, got {args.workers}")
    with joined() as team:
        _evaluate(args, team)


def _evaluate(args: Evaluate, team: "Team") -> None:
    from ..segmentation import checkpoint, engine
    from ..segmentation.evaluate import PrepareImageOnly, score_table
    from ..segmentation.evaluate import evaluate as score
    from ..segmentation.files import write_atomic
    from ..segmentation.sources import open_split, prepare_of

    device = engine.choose_device(args.device, team.local_rank)
    content = checkpoint.load(args.checkpoint)
    config = checkpoint.settings(content, args.checkpoint)
    if args.root is not None:
        config = dataclasses.replace(config, root=args.root)
    config = dataclasses.replace(config, cache=None)
    DataConfig.check(config)
    classes = checkpoint.class_table(content, args.checkpoint)
    model = network_of(content, args.checkpoint).to(device)
    prepare = prepare_of(config)
    split = args.split or config.val_split
    data = open_split(config, split, classes, PrepareImageOnly(prepare) if args.full_resolution else prepare)
    matrix = score(
        model,
        data,
        classes,
        device=device,
        batch_size=1 if args.full_resolution else args.batch_size,
        workers=args.workers,
        progress=not args.quiet,
        team=team,
    )
    if not team.first:
        return
    scores = matrix.scores(classes)
    where = "the labels' own resolution" if args.full_resolution else f"{config.size[0]} x {config.size[1]}"
    print(f"{args.checkpoint} on {config.root or 'drawn scenes'}, {split}: {len(data)} images, scored at {where}")  # type: ignore[arg-type]
    print(score_table(scores))
    if args.json is not None:
        text = json.dumps({"scores": scores, **matrix.state(), "classes": list(classes.names)}, indent=2) + "\n"
        write_atomic(args.json, lambda file: file.write(text.encode()))
