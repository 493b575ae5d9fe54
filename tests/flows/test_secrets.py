"""A stored token reaches the hub through server, worker and child, and is seen nowhere on the way."""

import subprocess
from pathlib import Path

import psutil
import pytest

from finery.core.errors import Forbidden, InvalidSpec
from finery.models import loading, resolving
from tests.models.hub import Hub, serving
from tests.platform import FINERY, Server, sft_job

TOKEN = "hf_nobody-may-see-this"
REPO = "someone/tiny"


def test_a_gated_model_is_trained_with_a_stored_token_that_nothing_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    tiny = loading.materialize(resolving.resolve("tiny-char", home=tmp_path), "tiny-char")
    hub = Hub(REPO, token=TOKEN)
    hub.commit({path.name: path.read_bytes() for path in tiny.iterdir() if path.name != "finery.json"})
    home = tmp_path / "home"
    home.mkdir()
    with serving(hub):
        server = Server(home, HF_ENDPOINT=hub.url, no_proxy="127.0.0.1")
        try:
            server.generate("sums", num_rows=100, format="sft")
            spec = sft_job(steps=3)
            spec["task"]["model"]["base"] = REPO
            with pytest.raises(Forbidden, match="gated.*HF_TOKEN"):
                server.submit(spec)

            done = subprocess.run(
                [*FINERY, "secrets", "set", "HF_TOKEN"],
                input=f"{TOKEN}\n",
                env=server.environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert TOKEN not in done.stdout + done.stderr
            job = server.await_state(server.submit(spec), "completed")

            assert job["last_values"]["loss"] > 0
            assert [row["name"] for row in server.client.get("/secrets")["secrets"]] == ["HF_TOKEN"]
            assert [path for path in home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()] == []
            assert [p for p in psutil.process_iter(["cmdline"]) if TOKEN in " ".join(p.info["cmdline"] or ())] == []
            with pytest.raises(InvalidSpec, match="cannot name a secret"):
                server.client.put("/secrets/lower", {"value": "x"})
            server.client.delete("/secrets/HF_TOKEN")
            assert server.client.get("/secrets")["secrets"] == []
        finally:
            server.stop()
