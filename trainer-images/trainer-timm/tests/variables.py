"""The variables of a small training by this trainer."""

VARIABLES = {
    "MODEL_NAME": "test_resnet",
    "IMAGE_SIZE": "32",
    "HYPERPARAMETERS": '{"pretrained": false}',
}
