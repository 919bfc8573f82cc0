"""Leads over one model, from predictions whose answers are known."""

from pathlib import Path

from studies.pooled import leads
from test_mmkd_summary import TASKS, predictions

from meddistill.evaluation.engine.prediction_files import write_predictions
from meddistill.evaluation.engine.suite_config import SuiteConfig

# Share of right answers on both tasks, by seed; the encoder has the first task alone.
SHARES = {
    "alone": [(0.6, 0.6), (0.6, 0.6)],
    "taught-ab12": [(0.8, 0.6), (0.7, 0.7)],
    "encoder-cd34": [(0.9,), (0.9,)],
}


def test_a_model_is_compared_on_the_tasks_that_it_has(tmp_path: Path) -> None:
    for model, by_seed in SHARES.items():
        for seed, shares in enumerate(by_seed):
            for task, share in zip(TASKS, shares, strict=False):
                path = tmp_path / str(seed) / "predictions" / task / f"{model}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_predictions(predictions(share), path, fingerprint="")
    tasks = [{"name": name, "kind": "zero_shot", "table": "test", "classes": ["a", "b"]} for name in TASKS]
    content = {"name": "study", "tables": {"test": {"table": "t.csv", "image": "image"}}, "tasks": tasks}
    suite = SuiteConfig.model_validate({**content, "bootstrap": {"resamples": 100}})
    rows = leads([tmp_path / "0", tmp_path / "1"], suite, over="alone").splitlines()[2:]
    cells = {row.split(" | ")[0].removeprefix("| "): row.split(" | ")[1:] for row in rows}
    assert cells["taught"][0].startswith("0.700")
    assert cells["taught"][1].startswith("+0.100")
    assert cells["encoder"][1].startswith("+0.300")
    assert cells["encoder"][-2:] == ["0.900", " |"]
