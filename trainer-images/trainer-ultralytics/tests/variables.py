"""The variables of a small training by this trainer."""

VARIABLES = {
    "MODEL_NAME": "yolo11n.yaml",
    "IMAGE_SIZE": "64",
    "HYPERPARAMETERS": '{"mosaic": 0.0, "plots": false}',
}
