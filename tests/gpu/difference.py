"""Print the largest difference between the weights of two checkpoints, in a trainer's environment."""

import sys

import torch


def weights(path: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint that this machine's trainer has just written."""
    content = torch.load(path, map_location="cpu", weights_only=False)
    if "state_dict" in content:
        return dict(content["state_dict"])
    model = content.get("ema") or content["model"]
    return dict(model.float().state_dict())


if __name__ == "__main__":
    one, other = map(weights, sys.argv[1:])
    if one.keys() != other.keys():
        sys.exit("the checkpoints are of different models")
    print(
        max(
            (float((one[key].float() - other[key].float()).abs().max()) for key in one if one[key].numel()), default=0.0
        )
    )
