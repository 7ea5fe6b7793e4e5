"""The training loop, in one process or several; a run can be interrupted and resumed with bit-identical results."""

import time
from typing import Any

from torch import nn

from ..data.class_table import ClassTable
from ..data.datasets import name_of
from ..errors import plural
from ..progress_bar import progress_bar
from ..score_names import SCORES
from .device import TrainingError
from .evaluation import evaluate
from .loading import StepInputs, epoch_batches
from .metrics import ConfusionMatrix
from .recorder import Recorder, Watch, percent
from .run_folder import RunFolder
from .schedule import learning_rate
from .setup import Run
from .state import TrainState, fingerprint, restore
from .step import LossNotFinite, TrainStep
from .stop_signals import Interrupt, Interrupted, defer_signals


def train(
    run: Run,
    folder: RunFolder | None,
    *,
    resume: dict[str, Any] | None = None,
    provenance: str = "",
    progress: bool = True,
    watch: Watch | None = None,
) -> list[dict[str, Any]]:
    """Train a run's model and return one record per epoch, the lines of `metrics.jsonl`.

    Args:
        folder: where the results are written; None in processes other than rank 0.
        resume: content of a ``last.pt``; training continues after its last step. On the same machine, with the same
            number of threads and processes, the result is bit for bit that of a run without an interruption. If the
            run now has more epochs, the learning rate from here on is that of a run of this length.
        provenance: software and machine, for ``config.json``.
        progress: print a line per epoch and show progress bars, in rank 0.
        watch: called every `config.report_every` epochs, and after the last one.

    Raises:
        Interrupted: after a signal, with ``last.pt`` written.
        TrainingError: the loss or the weights are not finite, memory runs out, or ``resume`` does not fit the run.
        DistributedError: another process is gone, or its data or settings differ.
        DataError: a file cannot be read.
        OSError: a checkpoint cannot be written.
    """
    config, context = run.config, run.context
    progress = progress and context.is_main
    train_step = TrainStep(run.model, config, run.class_weight, run.device, context)
    state, changes = (TrainState(), "") if resume is None else restore(run, train_step, resume)
    if changes and progress:
        print(f"continuing with the same samples, but the last bits will differ ({changes})")
    context.require_equal("the training data, the network or the settings", fingerprint(run, state))
    recorder = Recorder(run, folder, train_step, watch, progress=progress)
    recorder.begin(state, provenance, save=resume is None or resume["config"]["epochs"] != config.epochs)
    if state.finished(config):  # nothing to train, but a page may be requested for the first time
        recorder.report(state)
    if progress and state.epoch == config.epochs:
        print(f"epoch {config.epochs} of {config.epochs} is done; --resume with more --epochs continues the run")

    with defer_signals() as interrupt:
        while not state.finished(config):
            record = _train_and_validate(run, train_step, state, recorder, interrupt)
            better = "val_class_iou" in record and state.scores["class_iou"] > state.best
            state = TrainState(
                epoch=state.epoch + 1,
                best=state.scores["class_iou"] if better else state.best,
                records=[*state.records, record],
                scores=state.scores,
                extended=state.extended,
            )
            if state.stalled(config):
                record["stopped_early"] = True
            recorder.epoch(state, better=better)
            stop = int(max(row[0] for row in context.all_gather(interrupt.number)))
            if stop and not state.finished(config):
                raise Interrupted(stop)
    if progress and state.stalled(config):
        print(
            f"stopped early, after epoch {state.epoch}: no better validation class IoU in "
            f"{plural(config.patience or 0, 'epoch')}; --resume with a larger --patience continues the run"
        )
    return state.records


def _train_and_validate(
    run: Run, train_step: TrainStep, state: TrainState, recorder: Recorder, interrupt: Interrupt
) -> dict[str, Any]:
    """One epoch, and the validation that follows it; returns the record of both."""
    matrix = _train_epoch(run, train_step, state, recorder, interrupt)
    record = {
        "epoch": state.epoch + 1,
        "learning_rate": _learning_rate(run, state, run.steps - 1),
        "train_loss": state.loss_sum / run.steps,
        "train_class_iou": _class_iou(matrix, run.classes),
    }
    if run.config.validates(state.epoch + 1):
        try:
            record |= _validate(run, train_step, state, recorder, interrupt)
        except Interrupted:
            _save_halfway(state, matrix, recorder)
            raise
    return record | _speeds(run, state)


def _train_epoch(
    run: Run, train_step: TrainStep, state: TrainState, recorder: Recorder, interrupt: Interrupt
) -> ConfusionMatrix:
    """Train for one epoch, or for the rest of it after an interruption; returns the matrix of all processes."""
    config = run.config
    run.model.train()
    matrix = state.confusion(len(run.classes), run.context)
    batches = epoch_batches(config, run.images, state.epoch, state.step)
    steps = StepInputs(run.train_data, batches, config, run.context)
    began, loaded_before = time.monotonic() - state.seconds, state.load_seconds
    with progress_bar(
        desc=f"epoch {state.epoch + 1}/{config.epochs}",
        unit="batch",
        initial=state.step,
        total=run.steps,
        shown=recorder.progress,
    ) as bar:
        for batch, inputs in zip(batches, steps, strict=True):
            moment, rate = time.monotonic(), _learning_rate(run, state, state.step)
            train_step.seed_step(state.epoch, state.step)
            try:
                loss, results, flags = train_step.step(inputs, rate, (interrupt.number, recorder.due()))
            except LossNotFinite as error:
                samples = ", ".join(name_of(run.train_data, index) for _, index in batch)
                raise TrainingError(
                    f"{error} in epoch {state.epoch + 1}, step {state.step + 1} (learning rate {rate:.3g}, samples "
                    f"{samples}); the weights were left as they were, and the checkpoints are those of before: "
                    "try a lower --lr"
                ) from error
            for prediction, labels in results:
                matrix.update(prediction, labels)
            state.step += 1
            state.loss_sum += loss
            state.step_seconds += time.monotonic() - moment
            state.seconds = time.monotonic() - began
            state.load_seconds = loaded_before + steps.loader.seconds
            bar.update()
            if not bar.disable:
                class_iou = percent(_class_iou(matrix, run.classes))
                bar.set_postfix({"loss": f"{state.loss_sum / state.step:.3f}", "class IoU": class_iou})
            stop, due = int(max(number for number, _ in flags)), bool(flags[0][1])
            if stop or due:
                _save_halfway(state, _total(run, matrix), recorder)
            if stop:
                raise Interrupted(stop)
    return _total(run, matrix)


def _validate(
    run: Run, train_step: TrainStep, state: TrainState, recorder: Recorder, interrupt: Interrupt
) -> dict[str, Any]:
    """Scores for the record of an epoch. `state.scores` are those that decide: of the averaged weights, if any."""

    def score(model: nn.Module) -> dict[str, Any]:
        matrix = evaluate(
            model,
            run.val_data,
            run.classes,
            batch_size=run.config.batch_size,
            workers=run.config.workers,
            progress=recorder.progress,
            context=run.context,
            stop=lambda: interrupt.number,
        )
        return matrix.scores(run.classes)

    state.scores = score(run.model)
    record = {f"val_{name}": state.scores[name] for name in SCORES}
    if train_step.average is not None:
        state.scores = score(train_step.decisive)
        record |= {f"val_average_{name}": state.scores[name] for name in SCORES}
    return record


def _speeds(run: Run, state: TrainState) -> dict[str, float]:
    """Speeds of an epoch: if loading is slower than the steps, the device waits for the loader."""
    # Rank 0 loads 1 / world_size of the images, and all ranks load at the same time: the two factors cancel out.
    loading = state.load_seconds / max(run.config.workers, 1)
    return {
        "train_seconds": round(state.seconds, 2),
        "loader_images_per_second": round(run.images / max(loading, 1e-9), 1),
        "step_images_per_second": round(run.images / max(state.step_seconds, 1e-9), 1),
    }


def _save_halfway(state: TrainState, total: ConfusionMatrix, recorder: Recorder) -> None:
    state.matrix = total.state()
    recorder.save(state)


def _total(run: Run, matrix: ConfusionMatrix) -> ConfusionMatrix:
    """Sum of the processes' matrices."""
    total = ConfusionMatrix(len(run.classes))
    total.counts = run.context.sum(matrix.counts)
    return total


def _learning_rate(run: Run, state: TrainState, step: int) -> float:
    total = run.steps * run.config.epochs
    return learning_rate(run.config, (state.epoch * run.steps + step) / total, 1 / total)


def _class_iou(matrix: ConfusionMatrix, classes: ClassTable) -> float:
    """Class IoU so far; 0 while no pixel has been counted, because all labels were void."""
    return float(matrix.scores(classes)["class_iou"]) if matrix.counts.any() else 0.0
