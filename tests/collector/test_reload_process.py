"""The collector as a process of its own: SIGHUP, and a policy that is taken away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.collector.policy_world import policy_text
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config


async def readiness(port: int) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as response,
    ):
        return response.status, await response.text()


@pytest.mark.slow
async def test_sighup_reads_the_settings_again(tmp_path: Path, unused_tcp_port: int) -> None:
    (tmp_path / "policy.yaml").write_text(policy_text())
    async with run_gateway(tmp_path) as gateway, run_target(Page(b"milvus_a 1\n")) as port:
        config = write_config(
            tmp_path,
            gateway.url,
            scrape_configs=[static_job(port)],
            policy_file={"path": "policy.yaml"},
            reload={"interval": "0"},
            health={"port": unused_tcp_port},
        )
        process = subprocess.Popen([sys.executable, "-m", "collector", "run", "-c", str(config)])
        try:
            await until(lambda: len(gateway.rows()) >= 12)
            content = yaml.safe_load(config.read_text())
            content["scrape_configs"].append(static_job(port, job_name="second"))
            config.write_text(yaml.safe_dump(content))
            process.send_signal(signal.SIGHUP)
            await until(lambda: any('job="second"' in series for series, _, _ in gateway.rows()))
            (tmp_path / "policy.yaml").write_text("allow: nothing\n")
            process.send_signal(signal.SIGHUP)
            status, text = await readiness(unused_tcp_port)
            while "settings:" not in text:
                status, text = await readiness(unused_tcp_port)
            assert (status, "policy.yaml: allow" in text) == (200, True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
