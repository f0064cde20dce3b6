"""The loop of timm's train.py without the contract, in the trainer's environment: ``bare_timm.py FOLDER OPTIONS`` (JSON).

Prints one line of JSON: the times at which epochs ended, and the seconds that the training waited for data.
"""

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

FOLDER, OPTIONS = Path(sys.argv[1]), json.loads(sys.argv[2])


def main() -> None:
    """Train as ``timm``'s train.py does with these options: SGD, its augmentation, a validation in each epoch."""
    import timm
    import torch
    from timm.data import ImageDataset, create_loader, resolve_data_config
    from timm.optim import create_optimizer_v2
    from timm.utils import NativeScaler

    device = torch.device(OPTIONS["device"])
    model = timm.create_model(OPTIONS["model"], num_classes=10).to(device)
    size = (3, OPTIONS["image_size"], OPTIONS["image_size"])
    config = resolve_data_config({"input_size": size}, model=model)
    keys = ("input_size", "interpolation", "mean", "std", "crop_pct")
    usual: dict[str, Any] = {key: config[key] for key in keys}
    usual |= {"batch_size": OPTIONS["batch_size"], "num_workers": OPTIONS["workers"], "device": device}
    usual |= {"use_prefetcher": device.type == "cuda", "persistent_workers": OPTIONS["workers"] > 0}
    train = create_loader(ImageDataset(str(FOLDER / "train")), is_training=True, hflip=0.5, color_jitter=0.4, **usual)
    val = create_loader(ImageDataset(str(FOLDER / "val")), is_training=False, **usual)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.01, momentum=0.9, weight_decay=2e-5)
    has_scaler = OPTIONS["amp"] and device.type == "cuda"
    scaler = NativeScaler(device.type) if has_scaler else None
    autocast = torch.autocast(device.type, dtype=torch.float16) if has_scaler else nullcontext()
    ended, wait = list[float](), 0.0
    for _ in range(OPTIONS["epochs"]):
        model.train()
        since = time.monotonic()
        for images, labels in train:
            wait += time.monotonic() - since
            images, labels = images.to(device), labels.to(device)  # noqa: PLW2901 -- there already with the prefetcher
            with autocast:
                loss = torch.nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            if scaler:
                scaler(loss, optimizer, parameters=model.parameters())
            else:
                loss.backward()
                optimizer.step()
            since = time.monotonic()
        model.eval()
        correct = torch.zeros((), device=device)
        with torch.inference_mode():
            for images, labels in val:
                with autocast:
                    correct += (model(images.to(device)).argmax(1) == labels.to(device)).sum()
        correct.item()  # waits for the device
        torch.save({"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, FOLDER / "last.pth")
        ended.append(time.monotonic())
    print(json.dumps({"ended": ended, "wait_seconds": wait}))


if __name__ == "__main__":
    main()
