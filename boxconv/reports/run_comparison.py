"""Comparison of training runs: networks as rows, mean and spread over seeds, like the paper's Table 1.

`FinishedRun` has those values of a run's config.json and metrics.jsonl that tables and curves need. They are plain
values, so that a JSON file can keep them after the run's folder has been deleted. Scores are those after the last
epoch: choosing the epoch by the same validation scores would make them too high, most of all for the network with the
noisiest scores.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..score_names import MEANS, SCORES
from .tables import Section, Table

IGNORED = (
    *("classes", "palette", "cache", "device", "workers", "checkpoint_minutes", "timeout", "val_every"),
    "report_every",
)
"""Settings that do not make another experiment."""


@dataclass(frozen=True)
class Experiment:
    """A trained network with the settings of its training, from `settings_of`: what runs are grouped by."""

    network: str
    seed: int
    settings: dict[str, Any]

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result."""
        return {name: value for name, value in self.settings.items() if name not in IGNORED}


AnyRun = TypeVar("AnyRun", bound=Experiment)


class RunError(ValueError):
    """A folder or file has no finished run in it; the message names it and the reason."""


@dataclass(frozen=True)
class FinishedRun(Experiment):
    """A finished run: its settings, its validation class IoU during training, and its scores after the last epoch."""

    curve: list[list[float]]
    """Pairs [epoch, validation class IoU]."""
    scores: dict[str, Any]
    """Values of `SCORES`."""
    train_class_iou: float
    train_loss: float
    minutes: float
    noted_by: str
    """Commit and machine of the run; if they are not recorded, those of the comparison that first read it."""
    average: dict[str, Any] | None = None
    """Scores of the averaged weights, for a run with --ema."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.scores["iou"])

    @property
    def identity(self) -> str:
        """Equal for two runs whose results must be equal."""
        return json.dumps([self.network, self.seed, self.decisive, self.classes], sort_keys=True)


class Unfinished(RunError):
    """The run is still training, or was interrupted."""


def read_run(folder: Path, defaults: Mapping[str, Any], noted_by: str) -> FinishedRun:
    """Read the run in a folder.

    defaults: values of settings that are newer than the run. noted_by: that of a run that does not tell.

    Raises Unfinished for a run that is not finished, RunError if there is none.
    """
    if not any((folder / name).exists() for name in ("config.json", "last.pt")):
        raise RunError(f"{folder}: no folder of a training run, there is no config.json in it")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = content["config"]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        if len(records) < config["epochs"] and not (records and records[-1].get("stopped_early")):
            raise Unfinished(f"{folder}: the run is not finished: epoch {len(records)} of {config['epochs']}")
        last = records[-1]
        run = FinishedRun(
            network=config["network"],
            seed=config["seed"],
            # A run that was extended later had another learning rate than one of that length from the start.
            settings=settings_of(config, defaults)
            | ({"extended after": content["extended"]} if content.get("extended") else {}),
            curve=[[r["epoch"], round(r["val_class_iou"], 7)] for r in records if "val_class_iou" in r],
            scores={name: last[f"val_{name}"] for name in SCORES},
            train_class_iou=last["train_class_iou"],
            train_loss=last["train_loss"],
            minutes=sum(record["train_seconds"] for record in records) / 60,
            noted_by=content.get("provenance") or content.get("made_by") or noted_by,  # made_by: its older name
            average={name: last[f"val_average_{name}"] for name in SCORES} if "val_average_class_iou" in last else None,
        )
        return _checked(run)
    except RunError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{folder}: no training run that can be read: {type(error).__name__}: {error}"
        if (folder / "last.pt").exists():
            again = f"boxconv train --out {folder} --resume"
            message += f"; {again} writes config.json and metrics.jsonl again from last.pt"
        raise RunError(message) from error


def read_kept(path: Path | None, defaults: Mapping[str, Any]) -> list[FinishedRun]:
    """Read runs from a file with the result of `kept`; none if there is no file.

    defaults: values of settings that are newer than the file. Raises RunError for a file with other content.
    """
    if path is None or not path.exists():
        return []
    try:
        runs = [FinishedRun(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
        return [_checked(replace(run, settings=settings_of(run.settings, defaults))) for run in runs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: holds no kept runs: {type(error).__name__}: {error}") from error


def settings_of(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All settings except network, seed and, unless the data are a folder of the user's, the folder of the data."""
    apart = ("network", "seed", *(() if config["data"] == "folder" else ("root",)))
    return {name: value for name, value in {**defaults, **config}.items() if name not in apart}


def _checked(run: FinishedRun) -> FinishedRun:
    """Return ``run``; raises KeyError, TypeError or ValueError if tables and curves cannot be made from it."""
    values = [
        *(run.scores[name] for name in MEANS),
        run.train_class_iou,
        run.train_loss,
        run.minutes,
        *(v for e in run.curve for v in e),
    ]
    if not run.curve or not all(isinstance(value, (int, float)) for value in values):
        raise ValueError("scores and curve must be numbers")
    _ = run.settings["data"], run.settings["size"], run.identity
    return run


def kept(runs: Sequence[Experiment]) -> str:
    """``runs`` as JSON, one line each."""
    return "[\n" + ",\n".join(json.dumps(asdict(run)) for run in runs) + "\n]\n"


def merged(old: Sequence[FinishedRun], new: Sequence[FinishedRun]) -> list[FinishedRun]:
    """All runs. Of two with the same experiment and seed the new one counts, unless both are the same run."""
    runs = {run.identity: run for run in old}
    for run in new:
        known = runs.get(run.identity)
        if known is None or replace(run, noted_by=known.noted_by) != known:
            runs[run.identity] = run
    return list(runs.values())


def grouped(runs: Sequence[AnyRun], order: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, list[AnyRun]]:
    """Group runs by network and experiment; the keys are labels of the groups.

    A label has the name of the network, and those settings in which its groups differ and that are not at ``defaults``.
    Networks are in ``order``, the runs of a group in the order of their seeds.
    """
    by_network: dict[str, list[AnyRun]] = {}
    for run in sorted(
        runs, key=lambda run: (order.index(run.network) if run.network in order else len(order), run.seed)
    ):
        by_network.setdefault(run.network, []).append(run)
    groups: dict[str, list[AnyRun]] = {}
    for members in by_network.values():
        experiments = [run.decisive for run in members]
        names = sorted({name for known in experiments for name in known})
        values = {name: {json.dumps(known.get(name)) for known in experiments} for name in names}
        different = [name for name in names if len(values[name]) > 1]
        labels = {id(run): _label(run, different, defaults) for run in members}
        for run in sorted(members, key=lambda run: (labels[id(run)].count(","), labels[id(run)], run.seed)):
            groups.setdefault(labels[id(run)], []).append(run)
    return groups


def _label(run: Experiment, settings: Sequence[str], defaults: Mapping[str, Any]) -> str:
    named = {name: run.settings.get(name) for name in settings}
    text = ", ".join(
        name if value is True else f"{name} {_text(value)}"
        for name, value in named.items()
        if value != defaults.get(name)
    )
    return f"{run.network} ({text})" if text else run.network


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def sections(groups: Mapping[str, Sequence[FinishedRun]], paper: Mapping[str, tuple[float, float]]) -> list[Section]:
    """Tables of scores, curves and classes; ``paper``: class and category IoU of networks in the paper's Table 1."""
    schedules = by_epochs(groups)
    scores = _scores(groups, paper, schedule=len(schedules) > 1)
    curves = [_curves(members, None if len(schedules) == 1 else epochs) for epochs, members in schedules.items()]
    return [scores, *curves, _classes(groups)]


def by_epochs(groups: Mapping[str, Sequence[FinishedRun]]) -> dict[int, dict[str, Sequence[FinishedRun]]]:
    """Groups by the number of epochs of their schedules, the longest first."""
    epochs = {label: int(runs[0].settings["epochs"]) for label, runs in groups.items()}
    return {
        count: {label: runs for label, runs in groups.items() if epochs[label] == count}
        for count in sorted(set(epochs.values()), reverse=True)
    }


def _scores(
    groups: Mapping[str, Sequence[FinishedRun]], paper: Mapping[str, tuple[float, float]], *, schedule: bool
) -> Section:
    """Scores after the last epoch; with ``schedule``, also a column for the number of epochs."""
    averaged = any(run.average for runs in groups.values() for run in runs)
    rows = []
    for label, runs in groups.items():
        theirs = paper.get(runs[0].network)
        rows.append([
            label,
            *([str(runs[0].settings["epochs"])] if schedule else []),
            str(len(runs)),
            *(_spread([run.scores[name] for run in runs]) for name in MEANS),
            " ".join(f"{100 * run.scores['class_iou']:.1f}" for run in runs),
            *([_spread([run.average["class_iou"] for run in runs if run.average])] if averaged else []),
            f"{100 * statistics.mean(run.train_class_iou for run in runs):.1f}",
            f"{statistics.mean(run.train_loss for run in runs):.3f}",
            f"{statistics.mean(run.minutes for run in runs):.0f}",
            *([f"{value:.1f}" for value in theirs] if theirs else ["", ""]),
        ])  # fmt: skip
    header = [
        *("network", *(["epochs"] if schedule else []), "seeds", *MEANS.values(), "class IoU, seed by seed"),
        *(["of averaged weights"] if averaged else []),
        *("training class IoU", "loss", "minutes"),
        *("paper: class", "category"),
    ]
    text = (
        "Validation scores after the last epoch in per cent, mean and standard deviation over seeds. Training class "
        "IoU and loss are those of the last epoch, on augmented images and with dropout. Minutes count training "
        "without validation. The paper measured its figures on Cityscapes (val, Table 1)."
    )
    return Section("Validation scores", text, Table(header, rows))


def _curves(groups: Mapping[str, Sequence[FinishedRun]], schedule: int | None) -> Section:
    epochs = _chosen(shared_epochs([run for runs in groups.values() for run in runs]))
    rows = []
    for label, runs in groups.items():
        curves = [{int(epoch): iou for epoch, iou in run.curve} for run in runs]
        rows.append([label, *(f"{100 * statistics.mean(curve[e] for curve in curves):.1f}" for e in epochs),
                     _spread([max(curve.values()) for curve in curves])])  # fmt: skip
    text = (
        "Validation class IoU in per cent after so many epochs, mean over seeds. Best epoch: the highest value of each "
        "seed, mean and standard deviation over seeds."
    )
    title = "Class IoU over the epochs" if schedule is None else f"Class IoU over the epochs, {schedule} epochs"
    return Section(title, text, Table(["network", *map(str, epochs), "best epoch"], rows))


def shared_epochs(runs: Sequence[FinishedRun]) -> list[int]:
    """The epochs after which all runs were validated."""
    return sorted(set.intersection(*({int(epoch) for epoch, _ in run.curve} for run in runs)))


def _chosen(epochs: Sequence[int]) -> list[int]:
    """At most nine of the epochs: denser at the beginning, where curves bend, and always the first and the last."""
    if len(epochs) <= 9:
        return list(epochs)
    wanted = [epochs[-1] * (k / 8) ** 1.5 for k in range(1, 9)]
    return sorted({min(epochs, key=lambda epoch: abs(epoch - target)) for target in (epochs[0], *wanted)})


def _classes(groups: Mapping[str, Sequence[FinishedRun]]) -> Section:
    names = list(next(iter(groups.values()))[0].scores["iou"])
    rows = []
    for label, runs in groups.items():
        cells = []
        for name in names:
            values = [run.scores["iou"].get(name) for run in runs]
            known = [value for value in values if value is not None]
            cells.append(f"{100 * statistics.mean(known):.1f}" if known else "absent")
        rows.append([label, *cells])
    return Section(
        "IoU by class", "Validation IoU by class in per cent, mean over seeds.", Table(["network", *names], rows)
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean
