"""trainer.json is what the code accepts."""

import json

import describe
import predict
import yolo
from declaration import FILE


def test_the_declaration_is_current() -> None:
    assert FILE.read_text() == describe.text(), "run: python describe.py"


def test_it_names_models_in_each_size_and_the_options_of_each_task() -> None:
    declared = json.loads(FILE.read_text())
    options = {option["name"]: option for option in declared["options"]}

    assert {"yolo11n.yaml", "yolo11x-seg.yaml", "yolov8n-cls.yaml", "yolov10b.yaml", "yolo11n.pt", "*.pt"} <= set(
        declared["models"]
    )
    assert not options.keys() & (yolo.REFUSED | yolo.OWN_VARIABLE.keys())
    assert {name for name, option in options.items() if "predict" in option["tasks"]} == predict.OPTIONS
    assert describe.DESCRIPTIONS.keys() <= options.keys()
    assert (options["mosaic"]["minimum"], options["mosaic"]["maximum"]) == (0, 1)
