"""Train a classifier of timm on one dataset, by Stoker's contract (v1).

``train`` sets up, ``fit`` builds what a training needs, ``run_epochs`` and ``train_epoch`` run it, ``finish`` stores
the results. The seed, the epoch and the rank determine all randomness of an epoch, so that a training that was killed
and resumed ends with the same weights as one that was not.
"""

import logging
import random
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np

import devices
import options as read_options
from mlflow_tracking import Tracking
from state import Run
from system_metrics import SystemMetrics
from utils import ConfigInvalidError, Contract, Stopped, run

log = logging.getLogger("train")


def train(contract: Contract) -> Mapping[str, float]:
    """Train, from the last checkpoint if it exists; return the best epoch's metrics."""
    settings = contract.settings
    if settings.task != "train":
        raise ConfigInvalidError(f"TASK={settings.task} is not for this script: start {settings.task}.py")
    contexts = devices.contexts(settings.device, contract.scratch)  # exits 78 and names the device
    options = read_options.read(settings)  # exits 78 and names the option
    import checkpoints
    import dataset
    import model
    import weights

    system = SystemMetrics(settings.device)
    contract.measure = system.take
    model.check_name(settings.model_name)
    contract.phase("fetching the weights")
    is_resumed = contract.download(contract.key("checkpoints", "last.pt"), contract.scratch / "last.pt")
    start_from = None if is_resumed else weights.fetch(contract, options)  # exits 78 and says how to get them
    data, report = dataset.fetch(contract, val_share=options.val_share)  # exits 65 and names the file
    contract.phase("loading the model")
    tracking = Tracking(settings.mlflow_tracking_uri, experiment=settings.dataset_id, job_id=contract.settings.job_id)
    tracking.params({"model_name": settings.model_name, "dataset_id": settings.dataset_id, **settings.hyperparameters})
    try:
        with devices.followers(contexts, contract):
            done, answers = fit(
                contract, settings, options, data, contexts[0], tracking, start_from, system, is_resumed=is_resumed
            )
    except Stopped:
        checkpoints.store(contract, now=True)
        tracking.end("KILLED", within_seconds=1)
        raise
    except Exception as error:
        tracking.end("FAILED", within_seconds=10)
        raise devices.translated(error) from error
    return finish(contract, tracking, done, answers, data, report)


def finish(
    contract: Contract, tracking: Tracking, run: Run, answers: Any, data: Any, dataset_report: Any
) -> Mapping[str, float]:
    """Store the results; return the best epoch's metrics."""
    import plots
    import reports
    from reports import classification

    for path in (contract.scratch / "best.pt", contract.scratch / "last.pt"):
        contract.save_result(path, kind="checkpoints")
    measured = classification.measured(answers.confidence, answers.predicted, answers.actual, data.classes)
    paths = plots.write(contract.scratch / "results", run.history, measured["confusion_matrix"])
    for path in paths:
        contract.save_result(path)
    best = run.history[run.best_epoch - 1]
    metrics = {name: best[name] for name in ("top1", "top5", "val/loss", "train/loss")}
    content = reports.Content(
        task="classify",
        epoch=run.best_epoch,
        epochs=run.epoch,
        classes=data.classes,
        metrics=metrics,
        measured=measured,
        history=run.history,
        dataset=dataset_report.as_json(),
        versions=plots.versions(),
    )
    for path in (*paths, *reports.write(contract, content)):
        tracking.artifact(path)
    tracking.end("FINISHED")
    return metrics | {"best_epoch": run.best_epoch}


def fit(
    contract: Contract | None,
    settings: Any,
    options: read_options.Options,
    data: Any,
    context: devices.DistributedContext,
    tracking: Tracking | None = None,
    start_from: Any = None,
    system: SystemMetrics | None = None,
    *,
    is_resumed: bool,
) -> tuple[Run, Any]:
    """Build the model, optimizer and schedule, and train; return the run and the best model's answers."""
    import torch
    from timm.utils import ModelEmaV3, NativeScaler

    import checkpoints
    import model as models
    import recipe
    import reports
    import validation

    seed_all(settings.seed, 0, context.rank)
    device = devices.join(context)
    kwargs = models.arguments(
        options, classes=len(data.classes), image_size=settings.image_size, name=settings.model_name
    )
    # DistributedDataParallel copies rank 0's weights to the other processes.
    is_new = contract is not None and not is_resumed
    bare = models.start(contract, start_from, kwargs) if is_new else models.build(settings.model_name, kwargs)  # type: ignore[arg-type]  # not None
    config = models.data_config(bare, options, settings.image_size)
    model = models.prepared(bare, options, device, world=context.world)
    train_loader, val_loader = recipe.loaders(data, settings, options, config, device, world=context.world)
    updates = -(-len(train_loader) // options.grad_accum_steps)
    batch = train_loader.loader.batch_size * context.world * options.grad_accum_steps
    optimizer = recipe.optimizer(model, options, read_options.learning_rate(settings, options, batch=batch))
    has_scaler = options.amp and options.amp_dtype == "float16" and device.type == "cuda"
    run = Run(
        contract,
        options,
        context,
        model,
        ModelEmaV3(model, decay=options.model_ema_decay, use_warmup=options.model_ema_warmup)
        if options.model_ema
        else None,
        optimizer,
        recipe.scheduler(optimizer, options, epochs=settings.epochs, updates=updates),
        NativeScaler(device.type) if has_scaler else None,
        batches=system.data_wait.of if system else iter,
    )
    about = {"model_name": settings.model_name, "model_kwargs": kwargs, "classes": data.classes, "data_config": config}
    about["levels"] = list(data.levels)
    if is_resumed:
        checkpoints.resume(run, context.folder, about)
    wrapped = torch.nn.parallel.DistributedDataParallel(model) if context.world > 1 else model
    samples = None
    if contract is not None:
        source = partial(
            validation.SampleSource, run, val_loader, data, seed=settings.seed, root=contract.scratch / "dataset"
        )
        samples = reports.Samples(contract, source, task="classify", classes=data.classes, epochs=settings.epochs)
    loss = recipe.loss(options).to(device)
    answers = run_epochs(run, settings, about, wrapped, train_loader, val_loader, loss, tracking, samples)
    return run, answers


def run_epochs(
    run: Run,
    settings: Any,
    about: dict[str, Any],
    model: Any,
    train_loader: Any,
    val_loader: Any,
    loss: Any,
    tracking: Tracking | None,
    samples: Any,
) -> Any:
    """Run the remaining epochs; return the best model's answers on the validation images.

    ``about`` is the model's description in checkpoints; ``model`` is the run's, on several devices in its wrapper.
    """
    import checkpoints
    import validation

    options, contract = run.options, run.contract
    classes, updates = len(about["classes"]), -(-len(train_loader) // options.grad_accum_steps)
    best = None
    for epoch in range(run.epoch, settings.epochs):
        began = time.monotonic()
        seed_all(settings.seed, epoch + 1, run.context.rank)
        if run.context.world > 1:
            train_loader.sampler.set_epoch(epoch)
        if options.mixup_off_epoch and epoch >= options.mixup_off_epoch:
            train_loader.mixup_enabled = False
        metrics = {"epoch": epoch + 1, "lr": run.optimizer.param_groups[0]["lr"]}
        metrics |= train_epoch(run, model, train_loader, loss, epoch, updates)
        val_metrics, own = validation.validate(run, val_loader, classes)
        metrics |= val_metrics | {"seconds": time.monotonic() - began}
        run.history.append(metrics)
        run.epoch = epoch + 1
        best = own if run.is_best() else best
        if run.scheduler is not None:
            run.scheduler.step(epoch + 1, metrics["top1"])
        if run.context.rank == 0:
            checkpoints.write(run, about)
        if contract is not None:
            checkpoints.store(contract)
            report_epoch(contract, tracking, run, settings.epochs)
            samples.take(run.epoch, is_last=run.epoch == settings.epochs)
    if best is None:  # it is of an earlier attempt
        checkpoints.load_best(run)
        _, best = validation.validate(run, val_loader, classes)
    if contract is not None:
        samples.finish()
    return validation.answers(best, run.context)


def train_epoch(run: Run, model: Any, loader: Any, loss_function: Any, epoch: int, updates: int) -> dict[str, float]:
    """Train one epoch; return its mean loss."""
    import torch
    from timm.models import model_parameters
    from timm.utils import dispatch_clip_grad

    options, optimizer, device = run.options, run.optimizer, run.context.device
    accum, count = options.grad_accum_steps, len(loader)
    parameters = list(model_parameters(run.model, exclude_head="agc" in options.clip_mode))
    total, seen = torch.zeros((), device=device), 0
    model.train()
    optimizer.zero_grad()
    for number, (images, labels) in enumerate(run.batches(loader)):
        if options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)  # noqa: PLW2901 -- the same values in another layout
        is_update = (number + 1) % accum == 0 or number + 1 == count
        # The last step of an epoch may gather fewer batches than the others.
        accum_steps = count % accum if number >= count - count % accum else accum
        with model.no_sync() if run.context.world > 1 and not is_update else nullcontext():
            with devices.autocast(options, device):
                loss = loss_function(model(images), labels) / accum_steps
            if run.scaler is not None:
                run.scaler(
                    loss,
                    optimizer,
                    clip_grad=options.clip_grad,
                    clip_mode=options.clip_mode,
                    parameters=parameters,
                    need_update=is_update,
                )
            else:
                loss.backward()
                if is_update:
                    if options.clip_grad is not None:
                        dispatch_clip_grad(parameters, value=options.clip_grad, mode=options.clip_mode)
                    optimizer.step()
        total += loss.detach() * accum_steps * len(images)
        seen += len(images)
        if is_update:
            optimizer.zero_grad()
            done = epoch * updates + number // accum + 1
            if run.ema is not None:
                run.ema.update(run.model, step=done)
            if run.scheduler is not None:
                run.scheduler.step_update(num_updates=done)
        if run.contract is not None:
            run.contract.check()
            run.contract.progress(epoch * count + number + 1)
    return {"train/loss": devices.mean(total, seen, run.context)}


def report_epoch(contract: Contract, tracking: Tracking | None, run: Run, epochs: int) -> None:
    """Report a finished epoch to the functions and to MLflow."""
    metrics = {name: value for name, value in run.history[-1].items() if name not in {"epoch", "seconds"}}
    eta_seconds = (epochs - run.epoch) * run.history[-1]["seconds"]
    contract.heartbeat(epoch=run.epoch, epochs=epochs, metrics=metrics, eta_seconds=eta_seconds)
    if tracking is not None:
        tracking.metrics(contract.finite(metrics), run.epoch)
    log.info(
        "epoch %d of %d: %s", run.epoch, epochs, " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
    )


def seed_all(seed: int, epoch: int, rank: int) -> None:
    """Seed all random generators for an epoch from these three numbers."""
    import torch

    number = int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 -- timm draws from the global generator
    torch.manual_seed(number)


def follow() -> None:
    """Run one of the other processes of a training on several devices: no callbacks, no storage."""
    import os

    import dataset
    from utils import Settings

    settings, _ = Settings.from_environ(os.environ)
    options, context = read_options.read(settings), devices.of_environment(os.environ)
    data = dataset.load(context.folder / dataset.FILE)
    with suppress(KeyboardInterrupt):
        fit(None, settings, options, data, context, is_resumed=(context.folder / "last.pt").exists())


if __name__ == "__main__":
    if devices.is_follower():
        follow()
    else:
        sys.exit(run(train))
