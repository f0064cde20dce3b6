"""trainer.json is what the code accepts."""

import json

import describe
from declaration import FILE
from options import Options


def test_the_declaration_is_current() -> None:
    assert FILE.read_text() == describe.text(), "run: python describe.py"


def test_it_names_every_model_field_and_option() -> None:
    declared = json.loads(FILE.read_text())

    assert {"resnet18", "resnet18.a1_in1k"} <= set(declared["models"])
    assert [option["name"] for option in declared["options"]] == list(Options.__struct_fields__)
    assert {field["name"]: field["default"] for field in declared["fields"]}["epochs"] == 100
    assert describe.DESCRIPTIONS.keys() <= set(Options.__struct_fields__)
