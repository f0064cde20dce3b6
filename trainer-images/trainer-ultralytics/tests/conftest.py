"""Fixtures, by subject: real servers, and the trainer as a process. All but ``variables`` is alike in every trainer."""

pytest_plugins = ["fixtures_storage", "fixtures_functions", "fixtures_trainer", "fixtures_mlflow", "prepared"]
