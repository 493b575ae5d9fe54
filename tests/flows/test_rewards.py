"""A job brings its own reward and a key for a judge: both reach the child through the server, and nothing else does."""

import json
import subprocess
from pathlib import Path

from tests.platform import FINERY, Server
from tests.training.rewards.judge import Judge

KEY = "sk-nobody-may-see-this"
JOB = """
name: own-reward
kind: train
task:
  algorithm: grpo
  model: {{base: tiny-char}}
  data: {{train: judged}}
  optim: {{steps: 2, learning_rate: 1.0e-4}}
  prompts_per_step: 2
  rollout: {{completions_per_prompt: 2, max_new_tokens: 4}}
  rewards:
    - name: python_file
      params: {{path: ./mine.py}}
    - name: llm_judge
      params: {{base_url: "{url}", model: wise, api_key: JUDGE_KEY}}
resources: {{cpu_threads: 1}}
"""
CODE = """
import os
def reward(prompts, completions, answer):
    print("own reward of", len(completions), [value for value in os.environ.values() if "nobody" in value])
    return [0.25] * len(completions)
"""


def test_own_code_and_a_judge_score_a_job_that_was_submitted(shared: Server, tmp_path: Path) -> None:
    judge = Judge()
    shared.generate("judged", num_rows=20)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "job.yaml").write_text(JOB.format(url=judge.url))

    def finery(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*FINERY, *argv], input=stdin, env=shared.environment, capture_output=True, text=True)

    refused = finery("jobs", "submit", str(tmp_path / "job.yaml"))
    assert "there is no secret JUDGE_KEY" in refused.stderr
    finery("secrets", "set", "JUDGE_KEY", stdin=f"{KEY}\n").check_returncode()
    [made] = json.loads(finery("jobs", "submit", str(tmp_path / "job.yaml"), "--json").stdout)
    (tmp_path / "mine.py").unlink()
    job = shared.await_state(made["id"], "completed")
    judge.close()

    assert job["last_values"]["reward/python_file_mean"] == 0.25
    assert job["last_values"]["reward/llm_judge_mean"] == 0.5
    assert set(judge.keys) == {f"Bearer {KEY}"}
    assert "own reward of 4 []" in shared.log(made["id"])
    assert [path.read_text() for path in (shared.attempt(made["id"]).path / "code").iterdir()] == [CODE]
    assert [path for path in shared.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
