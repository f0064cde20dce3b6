"""The registered trainers, from the file that the setting TRAINERS names."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from functions.domain import fields, json_values
from functions.domain.declarations import Declaration, accepts, spelled
from functions.domain.errors import ConfigurationError, Unusable
from functions.runtime.settings import settings

_TASKS, _USUAL_TASKS = ("train", "predict", "check"), ("train", "predict")
#: of labels and annotations that select, own or admit a trainer's objects
_OWN_PREFIXES = ("stoker.dev", "kubernetes.io", "k8s.io")


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The resources of a trainer in a cluster, as Kubernetes quantities. The job itself requests GPUs."""

    cpu: str = "2"
    memory: str = "8Gi"
    #: the part of the memory that workers may share
    shm: str = "2Gi"
    #: scratch space and all other local storage
    scratch: str = "20Gi"
    ephemeral_storage: str = "24Gi"
    #: others by name, such as ``rdma/hca``
    extra: dict[str, str] = {}


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim of dynamic resource allocation, made for each pod from a template in the trainers' namespace."""

    name: str
    template: str


class Pod(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Further fields of a trainer's pod in a cluster; ``affinity`` and ``topology_spread`` have Kubernetes' formats."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    runtime_class: str = ""
    scheduler: str = ""
    affinity: dict[str, Any] = {}
    topology_spread: tuple[dict[str, Any], ...] = ()
    resource_claims: tuple[Claim, ...] = ()


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pod settings of a launch that only checks a dataset, in place of the trainer's own for GPUs."""

    #: by default small ones, with the trainer's scratch space, since the dataset is unpacked there
    resources: Resources | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str | int], ...] = ()


class Trainer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a framework's trainer is started: by an image in a cluster, by a command on a laptop."""

    command: dict[str, list[str]] = {}
    image: str = ""
    resources: Resources = Resources()
    #: Kubernetes' node selector, and tolerations in addition to the GPU's
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str | int], ...] = ()
    #: the resource that a job's ``gpus`` are; empty: the setting GPU_RESOURCE
    gpu_resource: str = ""
    pod: Pod = Pod()
    check: Check = Check()
    env: dict[str, str] = {}
    #: shell patterns of the model names that this trainer accepts
    models: tuple[str, ...] = ("*",)
    #: its declaration: the content of its trainer.json, or that file's path
    declaration: Declaration | str | None = None

    @property
    def declared(self) -> Declaration:
        """The trainer's declaration, as far as it is known."""
        own = self.declaration if isinstance(self.declaration, Declaration) else Declaration()
        return msgspec.structs.replace(own, models=self._models(own), tasks=self.tasks)

    def _models(self, own: Declaration) -> tuple[str, ...]:
        """Return the declared models that the registry allows; without a declaration, the registry's patterns."""
        if self.models == ("*",):
            return own.models
        allowed = tuple(model for model in own.models if accepts(self.models, model))
        return allowed if allowed and own.models != ("*",) else self.models

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it declares, or else train, predict, and those with a command; of them what can start here."""
        known = self._declared_tasks or tuple(task for task in _TASKS if self.command.get(task) or task in _USUAL_TASKS)
        return tuple(filter(self.can_start, known))

    def can_start(self, task: str) -> bool:
        """Return whether a task can be started here; an image that declares no tasks may have any."""
        own = self._declared_tasks
        is_startable = self.image if settings().launcher == "kubernetes" else self.command.get(task)
        return bool(is_startable) and (not own or task in own)

    @property
    def _declared_tasks(self) -> tuple[str, ...]:
        return self.declaration.tasks if isinstance(self.declaration, Declaration) else ()

    def for_check(self) -> "Trainer":
        """Return the trainer with the settings for a check of a dataset: few resources, and any node."""
        own, check = self.resources, self.check
        small = Resources(
            cpu="1", memory="4Gi", shm="256Mi", scratch=own.scratch, ephemeral_storage=own.ephemeral_storage
        )
        pod = Pod(labels=self.pod.labels, annotations=self.pod.annotations, scheduler=self.pod.scheduler)
        nodes = {"node_selector": check.node_selector, "tolerations": check.tolerations}
        return msgspec.structs.replace(self, resources=check.resources or small, pod=pod, **nodes)

    def accepts(self, model: str) -> bool:
        """Return whether the trainer has a model of this name, or of the declared name that differs only in case."""
        declared = self.declared.models
        name = spelled(declared, model)
        return accepts(self.models, name) and accepts(declared, name)

    def spelled(self, model: str) -> str:
        """Return a model's name as the trainer declares it, if only its case differs; else the name itself."""
        return spelled(self.declared.models, model)


@cache
def trainers() -> dict[str, Trainer]:
    """Return the registered trainers by framework, from the JSON file that ``TRAINERS`` names.

    Relative paths in a command are resolved against that file's folder.

    Raises:
        ConfigurationError: the file is missing or cannot be used.
    """
    if not settings().trainers:
        raise ConfigurationError("TRAINERS: set it to the JSON file that registers the trainers by framework")
    path = Path(settings().trainers).absolute()
    try:
        registry = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
        raise ConfigurationError(f"TRAINERS: the file {path} cannot be read: {reason}") from error
    if not registry or not isinstance(registry, dict):
        raise ConfigurationError(f"TRAINERS: the file {path} must hold a JSON object, one trainer for each framework")
    return {name: _resolved(_trainer(name, value, path), path.parent) for name, value in registry.items()}


def _trainer(framework: str, value: object, path: Path) -> Trainer:
    try:
        trainer = fields.convert(value, Trainer)
    except Unusable as error:
        raise ConfigurationError(f"TRAINERS: the trainer {framework} in {path}: {error}") from error
    for name in [*trainer.pod.labels, *trainer.pod.annotations]:
        if name.partition("/")[0].endswith(_OWN_PREFIXES):
            raise ConfigurationError(f"TRAINERS: the trainer {framework} in {path}: pod: Stoker itself sets {name}")
    for name, text in trainer.env.items():
        if not name or "=" in name or "\0" in name + text:
            raise ConfigurationError(
                f"TRAINERS: the trainer {framework} in {path}: {name!r} is no environment variable"
            )
    return trainer


def _resolved(trainer: Trainer, folder: Path) -> Trainer:
    # Not Path.resolve: a virtual environment's interpreter is a link, and its target is another environment.
    command = {
        task: [os.path.normpath(folder / word) if "/" in word else word for word in words]
        for task, words in trainer.command.items()
    }
    declaration = trainer.declaration
    if isinstance(declaration, str):
        declaration = _declaration(Path(os.path.normpath(folder / declaration)))
    return msgspec.structs.replace(trainer, command=command, declaration=declaration)


def _declaration(path: Path) -> Declaration:
    try:
        return fields.convert(json_values.decode(path.read_bytes()), Declaration)
    except (OSError, ValueError, Unusable) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"TRAINERS: the declaration {path} cannot be used: {reason}") from error


def check_defaults() -> None:
    """Check that the defaults can be used. Raises ConfigurationError."""
    check_default_framework()
    check_default_model()


def check_default_framework() -> None:
    """Check that the default framework is registered. Raises ConfigurationError."""
    framework = settings().default_framework
    if framework and framework not in trainers():
        raise ConfigurationError(f"DEFAULT_FRAMEWORK: {framework} is not in TRAINERS; use {', '.join(trainers())}")


def check_default_model() -> None:
    """Check that the default framework, or else any trainer, has the default model. Raises ConfigurationError."""
    framework, model = settings().default_framework, settings().default_model
    possible = [trainers()[framework]] if framework else trainers().values()
    if model and not any(trainer.accepts(model) for trainer in possible):
        raise ConfigurationError(f"DEFAULT_MODEL: {framework or 'no trainer in TRAINERS'} has no model {model}")
