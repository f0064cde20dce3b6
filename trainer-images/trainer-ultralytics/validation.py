"""Results of ultralytics' validator: predictions on the samples, and the best model's results by class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reports import SampleImage, classification
from reports.previews import opened
from reports.samples import chosen

CONFIDENCE = 0.25  # of a prediction that is shown, and that the confusion matrix counts
_MOST_OBJECTS, _TOP = 50, 3  # predictions of a sample: of objects, of classes
_POLYGON_PIXELS = 1.0  # how far a polygon may be from a mask's outline, in pixels of the mask


class SampleSource:
    """The samples of a training: a few validation images, and what the averaged weights predict on them."""

    def __init__(self, trainer: Any, scratch: Path, seed: int) -> None:
        self._trainer, self._scratch = trainer, scratch
        self._dataset = trainer.test_loader.dataset
        self._is_classifier = trainer.args.task == "classify"
        classes = (
            [[sample[1]] for sample in self._dataset.samples]
            if self._is_classifier
            else [label["cls"].ravel().astype(int).tolist() for label in self._dataset.labels]
        )
        self._chosen = chosen(classes, seed)

    def images(self) -> list[SampleImage]:
        """Return the images."""
        if self._is_classifier:
            samples = [self._dataset.samples[index][:2] for index in self._chosen]
            return [SampleImage(self._name(file), opened(Path(file)), [{"class": label}]) for file, label in samples]
        labels = [self._dataset.labels[index] for index in self._chosen]
        task = self._trainer.args.task
        return [
            SampleImage(self._name(label["im_file"]), opened(Path(label["im_file"])), _truth(label, task))
            for label in labels
        ]

    def _name(self, file: str) -> str:
        roots = (self._scratch / "classes", self._scratch / "dataset")
        return next((str(Path(file).relative_to(root)) for root in roots if Path(file).is_relative_to(root)), file)

    def predictions(self) -> list[list[dict[str, Any]]]:
        """Return the predictions on each image, as the validator makes them."""
        import torch  # noqa: PLC0415 -- after ``yolo.prepare``

        with torch.inference_mode():
            return [self._predict(index) for index in self._chosen]

    def _predict(self, index: int) -> list[dict[str, Any]]:
        validator = self._trainer.validator
        collate = self._trainer.test_loader.collate_fn
        batch = validator.preprocess(collate([self._dataset[index]]))
        # An image at a time: images of a rectangular validation differ in shape.
        output = validator.postprocess(self._trainer.ema.ema(batch["img"].float()))
        if self._is_classifier:
            best = output[0].topk(min(_TOP, output.shape[1]))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return [{"class": number, "confidence": confidence} for number, confidence in pairs]
        return _objects(output[0], batch, self._trainer.args.task)


def _truth(label: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """Return the objects of a label of ultralytics, whose coordinates are shares of the image."""
    objects = []
    for number, (row, (x, y, width, height)) in enumerate(
        zip(label["cls"].ravel(), label["bboxes"].tolist(), strict=True)
    ):
        one = {"class": int(row), "box": [x - width / 2, y - height / 2, width, height]}
        if task in {"segment", "obb"}:
            one["polygon"] = label["segments"][number].tolist()
        if task == "pose":
            one["keypoints"] = _visible(label["keypoints"][number].tolist(), 0.0)
        objects.append(one)
    return objects


def _objects(output: Mapping[str, Any], batch: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """Return the most confident predictions on the only image of a batch; coordinates become shares of the image."""
    import torch  # noqa: PLC0415 -- after ``yolo.prepare``
    from ultralytics.engine.results import Results  # noqa: PLC0415
    from ultralytics.utils import ops  # noqa: PLC0415

    kept = torch.nonzero(output["conf"] >= CONFIDENCE).ravel()[:_MOST_OBJECTS]  # the most confident come first
    mine = {name: values[kept] for name, values in output.items() if len(values) == len(output["conf"])}
    shape, original = batch["img"].shape[2:], batch["ori_shape"][0]
    pad = batch["ratio_pad"][0]
    boxes = ops.scale_boxes(shape, mine["bboxes"].clone(), original, ratio_pad=pad, xywh=task == "obb")
    rows = torch.cat([boxes, mine["conf"][:, None], mine["cls"][:, None]], dim=1).float()
    parts: dict[str, Any] = {"obb" if task == "obb" else "boxes": rows}
    if task == "pose":
        parts["keypoints"] = ops.scale_coords(shape, mine["keypoints"].clone(), original, ratio_pad=pad)
    if task == "segment":
        parts["masks"] = mine["masks"].byte()
    result = Results(np.zeros((*original, 0), np.uint8), path="", names={}, **parts).cpu()
    return _described(result)


def _described(result: Any) -> list[dict[str, Any]]:
    found = result.obb if result.obb is not None else result.boxes
    objects = [
        {"class": int(number), "confidence": confidence}
        for number, confidence in zip(found.cls.tolist(), found.conf.tolist(), strict=True)
    ]
    polygons: list[Any] = []
    if result.obb is not None:
        polygons = result.obb.xyxyxyxyn.tolist()
        boxes = [[*np.min(corners, axis=0), *np.max(corners, axis=0)] for corners in polygons]
    else:
        boxes = result.boxes.xyxyn.tolist()
    if result.masks is not None:
        polygons = _outlines(result.masks)
    for number, (one, (left, top, right, bottom)) in enumerate(zip(objects, boxes, strict=True)):
        one["box"] = [float(left), float(top), float(right - left), float(bottom - top)]
        if polygons:
            one["polygon"] = polygons[number]
        if result.keypoints is not None:
            one["keypoints"] = _seen(result.keypoints, number)
    return objects


def _outlines(masks: Any) -> list[list[list[float]]]:
    """Return the outline of each mask with few points, as shares of the image."""
    import cv2  # noqa: PLC0415 -- ultralytics sets it up

    height, width = masks.orig_shape
    tolerance = _POLYGON_PIXELS * max(masks.orig_shape) / max(masks.shape[1:])
    outlines = []
    for points in masks.xy:
        few = cv2.approxPolyDP(points.astype(np.float32), tolerance, closed=True) if len(points) else points
        outlines.append((few.reshape(-1, 2) / (width, height)).tolist())
    return outlines


def _seen(keypoints: Any, number: int) -> list[list[float]]:
    shares = keypoints.xyn[number].tolist()
    if keypoints.conf is None:
        return [point for point in shares if any(point)]
    surely = keypoints.conf[number].tolist()
    return _visible([[*point, sure] for point, sure in zip(shares, surely, strict=True)], CONFIDENCE)


def _visible(points: list[list[float]], least: float) -> list[list[float]]:
    """Return x and y of the keypoints that can be seen: by their third number, or unless they are at 0, 0."""
    return [[x, y] for x, y, *sure in points if (sure[0] > least if sure else (x, y) != (0.0, 0.0))]


class Measured:
    """Watches the validation of the best model, which ultralytics runs after the last epoch."""

    def __init__(self) -> None:
        self._validator: Any = None
        self._confusion: Any = None
        self._answers: list[Any] = []  # (3, N) each: confidence, prediction, label
        self._problem: Exception | None = None

    def watch(self, model: Any) -> None:
        """Watch the validations of a model, of its trainer or its own."""
        model.add_callback("on_val_start", self._start)

    def _start(self, validator: Any) -> None:
        if validator.training:  # after an epoch
            return
        self._validator, self._confusion, self._answers = validator, None, []
        update = validator.update_metrics

        def update_metrics(predictions: Any, batch: Any) -> None:
            update(predictions, batch)
            try:
                self._add(predictions, batch)
            except Exception as problem:  # noqa: BLE001 -- ``content`` raises it: a report ends no training
                self._problem = problem

        validator.update_metrics = update_metrics

    def _add(self, predictions: Any, batch: Mapping[str, Any]) -> None:
        import torch  # noqa: PLC0415 -- after ``yolo.prepare``

        if self._validator.args.task == "classify":
            best = predictions.float().max(dim=1)
            self._answers.append(torch.stack([best.values, best.indices.float(), batch["cls"].float()]).cpu())
            return
        from ultralytics.utils.metrics import ConfusionMatrix  # noqa: PLC0415

        # ultralytics' own matrix exists only with plots, and counts predictions of any confidence.
        self._confusion = self._confusion or ConfusionMatrix(names=self._validator.names)
        for number, own in enumerate(predictions):
            shown = {name: own[name] for name in ("bboxes", "conf", "cls")}
            self._confusion.process_batch(shown, _target(batch, number), conf=CONFIDENCE)

    def content(self) -> dict[str, Any]:
        """Return confusion_matrix, per_class and curves as report.json has them; nothing if no validation was seen.

        Raises:
            Exception: whatever ultralytics raised while it validated.
        """
        if self._problem is not None:
            raise self._problem
        if self._validator is None:
            return {}
        names = [str(name) for _, name in sorted(self._validator.names.items())]
        if self._answers:
            confidence, predicted, actual = np.concatenate(self._answers, axis=1)
            return classification.measured(confidence, predicted, actual, names)
        matrix = {} if self._confusion is None else confusion_matrix(self._confusion.matrix, names)
        return matrix | of_objects(self._validator.metrics, self._validator.args.task, names)


def _target(batch: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the true objects of one image of a batch in pixels, as predictions are."""
    from ultralytics.utils import ops  # noqa: PLC0415 -- after ``yolo.prepare``

    mine = batch["batch_idx"] == number
    height, width = batch["img"].shape[2:]
    boxes = batch["bboxes"][mine].clone()
    boxes[:, :4] *= boxes.new_tensor([width, height, width, height])
    is_rotated = boxes.shape[1] > 4  # noqa: PLR2004 -- with an angle
    return {"cls": batch["cls"][mine].squeeze(-1), "bboxes": boxes if is_rotated else ops.xywh2xyxy(boxes)}


def confusion_matrix(matrix: Any, names: list[str]) -> dict[str, Any]:
    """Return ultralytics' matrix, whose rows are predictions, with labels as rows; the last of both is background."""
    counts = np.asarray(matrix).T.astype(int).tolist()
    return {"confusion_matrix": {"labels": [*names, "background"], "counts": counts}}


def of_objects(metrics: Any, task: str, names: list[str]) -> dict[str, Any]:
    """Return per_class and curves of ultralytics' metrics: of masks or poses, if the task has them, else of boxes."""
    metric = getattr(metrics, {"segment": "seg", "pose": "pose"}.get(task, "box"))
    rows = {int(number): row for row, number in enumerate(metric.ap_class_index)}
    per_class = []
    for number, name in enumerate(names):
        one = {
            "name": name,
            "images": int(metrics.nt_per_image[number]),
            "instances": int(metrics.nt_per_class[number]),
        }
        if number in rows:
            row = rows[number]
            columns = {"precision": metric.p, "recall": metric.r, "f1": metric.f1, "ap50": metric.ap50, "ap": metric.ap}
            one |= {key: float(values[row]) for key, values in columns.items()}
        per_class.append(one)
    return {"per_class": per_class} | ({"curves": _curves(metric)} if rows else {})


def _curves(metric: Any) -> dict[str, Any]:
    steps = np.linspace(0, 1, classification.POINTS)

    def mean(by_class: Any) -> list[float]:
        return [float(value) for value in np.interp(steps, metric.px, np.mean(by_class, axis=0))]

    return {
        "confidence": steps.tolist(),
        "precision": mean(metric.p_curve),
        "recall": mean(metric.r_curve),
        "f1": mean(metric.f1_curve),
        "pr": {"recall": steps.tolist(), "precision": mean(metric.prec_values)},
    }
