"""Whole trainings, each a real process with a real model."""

import csv
import io

from conftest import Trainer
from pictures import dataset


def rows(trainer: Trainer) -> list[dict[str, str]]:
    content = trainer.stored("results/job-{id}/metrics.csv")
    assert content is not None
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_a_training_reports_each_epoch_and_leaves_its_results(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run() == 0, trainer.output

    heard = trainer.functions.heard
    assert heard[0].call == "event"
    assert heard[0].body == {"type": "started"}
    beats = trainer.functions.bodies("heartbeat")
    assert [beat["epoch"] for beat in beats if "epoch" in beat][-1] == 2
    assert {"train/box_loss", "metrics/mAP50(B)"} <= beats[-1]["metrics"].keys()
    assert beats[-1]["attempt"] == 1
    done = heard[-1]
    assert (done.call, done.body["status"]) == ("done", "SUCCEEDED")
    assert "metrics/mAP50(B)" in done.body["metrics"]
    assert [row["epoch"].strip() for row in rows(trainer)] == ["1", "2"]
    for key in done.body["artifacts"]:
        assert trainer.stored(key), key
    expected = {"checkpoints/job-{id}/best.pt", "checkpoints/job-{id}/last.pt", "results/job-{id}/args.yaml"}
    assert {key.format(id=trainer.job_id) for key in expected} <= set(done.body["artifacts"])
