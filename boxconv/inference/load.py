"""Open trained networks from runs, checkpoints, exported files and the package."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.config import Data, DataConfig
from ..errors import UsageError
from ..training.config import TrainConfig

EXPORTED = (".onnx", ".pt2", ".safetensors")
TRAINED = "boxenet-camvid"
"""Default network of `boxconv predict`."""


@dataclass(frozen=True)
class Opened:
    """A network, the transform of its input, and the classes of its output."""

    model: Any
    classes: Any  # ClassTable
    prepare: Any  # EvalTransform
    about: dict[str, Any]
    network: dict[str, Any]
    """The arguments of `networks.create` that made it; none where it is deployed."""
    config: Any = None
    """TrainConfig of the run, of a checkpoint."""


def is_network(name: Path) -> bool:
    """Whether a word of the command line is a network, not an image: by suffix, content, or its name in the package."""
    return name.suffix in (".pt", *EXPORTED) or file_of(name) != name or (name.is_file() and _starts_as_archive(name))


def file_of(name: Path) -> Path:
    """The file of a network that is given by its path, its run's folder, or the name of one in the package."""
    if (name / "best.pt").is_file():
        return name / "best.pt"
    here = name.is_file() or (name / "config.json").exists() or (name / "last.pt").exists()
    return name if here else trained().get(str(name), name)


def _starts_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"  # as checkpoints do, whatever they are called


def trained() -> dict[str, Path]:
    """The files of the networks in the package, by what they are called on the command line."""
    from box_convolution.networks import pretrained

    return {f"{name}-{data}": pretrained.file_of(name, data) for name, data in pretrained.available()}


def network_of(content: dict[str, Any], path: Path) -> Any:
    """The network of a checkpoint, with its weights."""
    from box_convolution.networks import weights

    from ..training.checkpoint import CheckpointError, load_weights

    try:
        model = weights.create_from(content["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"describes a network that cannot be made: {error}") from error
    load_weights(model, content, path)
    return model


def about(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What of a checkpoint, besides its weights, is needed to use its network: plain values, for exported files."""
    from ..data.sources import prepare_of
    from ..training import checkpoint

    config = checkpoint.settings(content, path)
    prepare = prepare_of(config)
    return {
        "data": config.data,
        "border": config.border,
        "split": config.val_split,
        "train_split": config.train_split,
        "scenes_for_validation": config.scenes_for_validation,
        "classes": content["classes"],
        "size": list(prepare.size or ()),
        "mean": list(prepare.mean),
        "std": list(prepare.std),
        "scores": content["scores"],
    }


def open_network(path: Path) -> Opened:
    """The network in a checkpoint or in a file that `boxconv export` wrote, told by the suffix.

    Raises CheckpointError, ExportError or WeightsError for a file that holds none.
    """
    from ..data.classes import ClassTable
    from ..data.transforms import EvalTransform
    from ..training import checkpoint
    from ..training.checkpoint import CheckpointError

    path, network, config = Path(path), {}, None
    if not path.exists() and not path.suffix:
        raise CheckpointError(path, f"no such file, nor one of the package's networks, {', '.join(trained())}")
    if path.suffix not in EXPORTED:
        content = checkpoint.load(path)
        model, values = network_of(content, path), about(content, path)
        network, config = content["network"], checkpoint.settings(content, path)
    elif not path.is_file():
        raise CheckpointError(path, "no such file")
    elif path.suffix == ".safetensors":
        from box_convolution.networks import weights

        model, values = weights.load(path)
        network = values.pop("network")
    else:
        from box_convolution.deploy import export

        model, values = export.open_onnx(path) if path.suffix == ".onnx" else export.open_program(path)
    try:
        prepare = EvalTransform(tuple(values["size"]), tuple(values["mean"]), tuple(values["std"]))
        return Opened(model.eval(), ClassTable.from_dict(values["classes"]), prepare, values, network, config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            path, f"does not say how images are prepared, or what its classes are: {error}"
        ) from error


def open_trained(name: Path) -> Opened:
    """`open_network` for what reads a network's layers; ``name`` as in `file_of`. UsageError for a deployed network."""
    opened = open_network(file_of(name))
    if not opened.network:
        raise UsageError(
            f"{name}: a deployed network, without the layers of the trained one; expected a checkpoint, a run, "
            f"a .safetensors file or one of {', '.join(trained())}"
        )
    return opened


def data_of(opened: Opened, name: Path, data: Data | None = None, root: Path | None = None) -> TrainConfig:
    """What a network is scored on: the data and the validation split of its training, or others that are asked for.

    UsageError where that is not known, or has other classes than the network.
    """
    from ..data.sources import classes_of

    about = opened.about
    same = data is None or data == about.get("data")
    kind = about.get("data") if data is None else data
    if kind is None:
        raise UsageError(
            f"{name} does not say what it was trained on: export it again from its checkpoint, or give boxconv "
            "evaluate --data and --root"
        )
    if opened.config is not None and same:
        config = dataclasses.replace(opened.config, root=root or opened.config.root, cache=None)
    else:
        kept = {field: about[field] for field in ("border", "scenes_for_validation") if same and field in about}
        sizes: dict[str, Any] = {field: getattr(opened.prepare, field) for field in ("size", "mean", "std")}
        splits = {"train_split": about.get("train_split", "train"), "val_split": about.get("split", "val")}
        config = TrainConfig(data=kind, root=root, **sizes, **kept, **(splits if same else {}))
    DataConfig.check(config)
    table = config.classes or (config.root or Path()) / "classes.csv"
    if table.is_file() or (kind != "folder" and config.classes is None):  # else its own classes are believed
        theirs, ours = classes_of(config).names, opened.classes.names
        if theirs != ours:
            where = f"{kind}, {table}" if kind == "folder" else kind
            raise UsageError(
                f"--data: {where} has the classes {', '.join(theirs)}; {name} tells apart {', '.join(ours)}"
            )
    return config


def validation_scores(model: Any, classes: Any, config: Any) -> dict[str, Any]:
    """Scores of ``model``, which tells ``classes`` apart, on the validation split of a run's settings ``config``."""
    from ..data.sources import open_split, prepare_of
    from ..training import engine
    from ..training.evaluate import evaluate

    device = engine.choose_device(config.device)
    data = open_split(config, config.val_split, classes, prepare_of(config))
    matrix = evaluate(model.to(device), data, classes, device=device, batch_size=config.batch_size)
    return matrix.scores(classes)
