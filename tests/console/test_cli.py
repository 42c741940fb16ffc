"""The command tree: lazy, and honest in its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from billing.licence_file import sign_licence
from console.cli import GROUPS, main
from console.migrate import newest_revision
from tests.billing.deals import licence_text


def byoc(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "console", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_group_has_help(group: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--dir", str(tmp_path), group, "--help"])
    assert ended.value.code == 0
    assert "Usage" in capsys.readouterr().out


def test_help_imports_no_component() -> None:
    """`byoc --help` in the customer's VPC must not ask for the vendor's libraries."""
    script = (
        "import sys\nfrom console.cli import build_app\nbuild_app(['--help'])\n"
        "print([name for name in ('sqlalchemy', 'duckdb', 'pyarrow', 'dbos', 'aiokafka') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


VENDORS = (
    "aiokafka alembic babel boto3 dbos duckdb jinja2 noto_cjk_sans_otc opentelemetry promql_parser psycopg pypdf "
    "pyiceberg rfc8785 sqlalchemy typst"
)


def base_install(*words: str) -> subprocess.CompletedProcess[str]:
    """`byoc` where the extra `vendor` is not installed."""
    script = (
        f"import sys\nfor name in {VENDORS!r}.split(): sys.modules[name] = None\n"
        f"from console.cli import main\nmain({list(words)!r})"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_what_a_customer_checks_needs_the_base_install_alone(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    licence, public_key = tmp_path / "licence.yaml", tmp_path / "vendor.pem"
    licence.write_text(sign_licence(licence_text(valid=("2000-01-01", "2200-01-01")), key, "licence.yaml"))
    public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    catalogue = Path(__file__).resolve().parents[2] / "metering" / "meters" / "milvus.yaml"
    prices = Path(__file__).resolve().parents[2] / "deploy" / "examples" / "prices.yaml"
    for group in ("licence", "license"):
        done = base_install(group, "check", str(licence), "--public-key", str(public_key))
        assert (done.returncode, done.stderr) == (0, "")
        assert "signature fits\nvalid 2000-01-01 to 2200-01-01, now 16 vCPU" in done.stdout
    for words in (("meters", "check", str(catalogue)), ("meters", "list"), ("price", "check", str(prices))):
        done = base_install(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
    for words in (("licence", "show", "acme"), ("meters", "check", "absent.yaml"), ("contract", "list")):
        done = base_install(*words)
        assert done.returncode in {1, 2}, words
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_refused_input_exits_with_2_and_names_the_field(tmp_path: Path) -> None:
    config = tmp_path / "vendor.yaml"
    config.write_text("lake: {commit_seconds: 0}\n", encoding="utf-8")
    done = byoc("-c", str(config), "up", "--check-config")
    assert done.returncode == 2, done.stderr
    assert "lake" in done.stderr
    assert "commit_seconds" in done.stderr


def test_a_misspelt_section_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "vendor.yaml"
    config.write_text("laek: {commit_seconds: 5}\n", encoding="utf-8")
    done = byoc("-c", str(config), "up", "--check-config")
    assert done.returncode == 2
    assert "'laek'" in done.stderr


def test_dir_and_config_together_are_refused(tmp_path: Path) -> None:
    done = byoc("--dir", str(tmp_path), "-c", str(tmp_path / "x.yaml"), "organization", "list")
    assert done.returncode == 2
    assert "one of them" in done.stderr


def test_the_newest_revision_is_the_end_of_the_chain() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from console.migrate import MIGRATIONS

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == newest_revision()
