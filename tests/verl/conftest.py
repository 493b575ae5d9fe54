from tests.training.conftest import _one_thread, bench, models_home  # noqa: F401 - the fixtures of training
