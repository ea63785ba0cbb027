"""What stands in deploy/: read by the programs' own schemas, with flags that exist, and in agreement with itself."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
import yaml

from dico_tf import flags
from dico_tf.cli import __main__, serve
from dico_tf.edge import gateway, options
from dico_tf.edge.members import addresses
from dico_tf.edge.server import access, grpc_server, rest, tls
from dico_tf.errors import UserError

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BRANCHES = ["branch_0", "branch_1"]
KUBERNETES = ("1.25.0", "1.31.0", kubernetes_validate.latest_version())
OBJECTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "docker/compose.yaml"
DOCKERFILE = DEPLOY / "docker/Dockerfile.edge"


def documents(*paths: Path) -> list[dict[str, Any]]:
    return [found for path in paths for found in yaml.safe_load_all(path.read_text())]


def named(kind: str) -> dict[str, dict[str, Any]]:
    """{name: object} of the objects of Kubernetes of one kind."""
    return {found["metadata"]["name"]: found for found in documents(*OBJECTS) if found["kind"] == kind}


def pod(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def container(deployment: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = pod(deployment)["containers"]
    return found


DEPLOYMENTS, SERVICES = named("Deployment"), named("Service")
CLAIMS, SECRETS = named("PersistentVolumeClaim"), named("Secret")
SERVED = yaml.safe_load(COMPOSE.read_text())["services"]
EDGE = {name: service for name, service in SERVED.items() if name != "tf-serving"}
COMMANDS = {
    **{f"kubernetes {name}": container(found)["args"] for name, found in DEPLOYMENTS.items()},
    **{f"compose {name}": service["command"] for name, service in EDGE.items()},
}


def told(words: list[str]) -> tuple[str, dict[str, Any]]:
    """(verb, {flag: value}) of a command line of serve.py, each section of whose options must accept it."""
    verb, rest = flags.verb("serve.py", serve.VERBS, words)
    values, _ = flags.parse(serve.script(verb), rest)
    for name in serve.SECTIONS[verb]:
        section = getattr(options, name)
        section(**{field.name: values[field.name] for field in flags.of(section)})
    return verb, values


def test_there_is_a_file_for_each_way_and_each_of_them_can_be_read():
    found = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file() and path.name != "token"}
    assert found == {
        "docker/Dockerfile.edge", "docker/Dockerfile.edge.dockerignore", "docker/compose.yaml", "envoy/envoy.yaml",
        "kserve/committee.yaml", "kserve/graph.yaml", "kubernetes/branch-0.yaml", "kubernetes/branch-1.yaml",
        "kubernetes/gateway.yaml", "kubernetes/settings.yaml",
    }  # fmt: skip
    for path in DEPLOY.rglob("*.yaml"):
        assert all(isinstance(document, dict) for document in documents(path)), path


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_flag_of_serve_exists_and_lets_it_start(words):
    verb, values = told(words)
    known = bool(values["token_file"] or values["tls_client_ca"])
    access.check_address(values["host"], tls=bool(values["tls_cert"]), authenticated=known, insecure=values["insecure"])
    assert values["token_file"] and bool(values["tls_cert"]) == (not values["insecure"])
    if verb == "worker":
        assert values["member"] in BRANCHES
    else:
        places = addresses.parse(values["members"], BRANCHES)
        options.CommitteeOptions(manifest="O", quorum=values["quorum"]).majority(len(places))
        gateway._check_token("x" * 16, values["member_tls_ca"], places, values["insecure"])


def test_a_flag_that_does_not_exist_would_be_found():
    with pytest.raises(UserError, match="htp_port"):
        told([*COMMANDS["compose branch-0"], "--htp_port=1"])


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_are_as_kubernetes_wants_them(path, version):
    for found in documents(path):
        assert version.startswith(kubernetes_validate.validate(found, version, strict=True))


def test_the_schema_of_kubernetes_knows_what_it_does_not_know():
    wrong = named("Deployment")["dico-gateway"]
    container(wrong)["readynessProbe"] = container(wrong).pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def selected(selector: Mapping[str, str]) -> list[str]:
    """Deployments whose pods a selector finds."""
    labels = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in DEPLOYMENTS.items()}
    return [name for name, of_pod in labels.items() if selector.items() <= of_pod.items()]


def test_selectors_find_the_pods_of_their_name_and_no_others():
    assert DEPLOYMENTS.keys() == SERVICES.keys() == {"dico-branch-0", "dico-branch-1", "dico-gateway"}
    for name in DEPLOYMENTS:
        assert selected(SERVICES[name]["spec"]["selector"]) == [name]
        assert selected(DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"]) == [name]
    for name, budget in named("PodDisruptionBudget").items():
        assert selected(budget["spec"]["selector"]["matchLabels"]) == [name]
    for name, scaler in named("HorizontalPodAutoscaler").items():
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", name) and name in DEPLOYMENTS
        assert "replicas" not in DEPLOYMENTS[name]["spec"], "each apply would undo what the autoscaler did"
        assert container(DEPLOYMENTS[name])["resources"]["requests"]["cpu"], "of which a share is measured"
    for spread in pod(DEPLOYMENTS["dico-gateway"])["topologySpreadConstraints"]:
        assert selected(spread["labelSelector"]["matchLabels"]) == ["dico-gateway"]
    for name in BRANCHES:
        away = pod(DEPLOYMENTS[_dashed(name)])["affinity"]["podAntiAffinity"]
        (term,) = away["preferredDuringSchedulingIgnoredDuringExecution"]
        workers = ["dico-branch-0", "dico-branch-1"]
        assert selected(term["podAffinityTerm"]["labelSelector"]["matchLabels"]) == workers


def _dashed(member: str) -> str:
    return "dico-" + member.replace("_", "-")


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_ports_and_probes_lead_to_what_serve_listens_on(name):
    verb, values = told(container(DEPLOYMENTS[name])["args"])
    ports = {port["name"]: port["containerPort"] for port in container(DEPLOYMENTS[name])["ports"]}
    assert ports == {"grpc": values["port"], "https": values["http_port"]} and values["host"] == "0.0.0.0"
    for port in SERVICES[name]["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]] and port["name"] == port["targetPort"]
    for kind, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
        probe = container(DEPLOYMENTS[name])[f"{kind}Probe"]["httpGet"]
        assert probe == {"path": f"/v2/health/{path}", "port": "https", "scheme": "HTTPS"}
        assert probe["path"] in rest.PUBLIC and values["tls_cert"] and not values["tls_client_ca"], "kubelet shows none"
    assert verb == ("gateway" if name == "dico-gateway" else "worker")


def test_gateways_ask_every_worker_where_its_service_is():
    places = addresses.parse(told(COMMANDS["kubernetes dico-gateway"])[1]["members"], BRANCHES)
    for member, (place,) in places.items():
        service = SERVICES[_dashed(member)]
        assert place.target == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        assert told(COMMANDS[f"kubernetes {_dashed(member)}"])[1]["member"] == member
    places = addresses.parse(told(COMMANDS["compose gateway"])[1]["members"], BRANCHES)
    for member, (place,) in places.items():
        name, _, port = place.target.rpartition(":")
        values = told(EDGE[name]["command"])[1]
        assert (values["member"], values["port"]) == (member, int(port))
        assert set(EDGE[name]["networks"]) & set(EDGE["gateway"]["networks"])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_files_that_flags_name_are_mounted_and_only_read(name):
    mounts = {mount["mountPath"]: mount for mount in container(DEPLOYMENTS[name])["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(DEPLOYMENTS[name])["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    assert all(mount["readOnly"] for mount in mounts.values())
    _, values = told(container(DEPLOYMENTS[name])["args"])
    files = {flag: value for flag, value in values.items() if isinstance(value, str) and value.startswith("/")}
    assert {"manifest", "token_file", "tls_cert", "tls_key"} <= files.keys()
    for path in map(Path, files.values()):
        volume = volumes[mounts[str(path.parent)]["name"]]
        if "secret" in volume:
            assert path.name in SECRETS[volume["secret"]["secretName"]]["stringData"]
            assert volume["secret"]["defaultMode"] == 0o440 and pod(DEPLOYMENTS[name])["securityContext"]["fsGroup"]
        else:
            assert volume["persistentVolumeClaim"]["claimName"] in CLAIMS and path.name == "manifest.json"


def test_secrets_that_nobody_filled_in_let_nothing_start(tmp_path):
    for secret in SECRETS.values():
        for name, content in secret["stringData"].items():
            (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="at least 16"):
        access.token(str(tmp_path / "token"))
    with pytest.raises(UserError, match="not a certificate and its key"):
        tls.ServerTLS(cert=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
    with pytest.raises(UserError, match="not a certificate"):
        tls.ClientTLS(ca=str(tmp_path / "ca.crt")).context()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_container_may_do_little_and_takes_no_more_than_its_share(name):
    of_pod, of_container = pod(DEPLOYMENTS[name]), container(DEPLOYMENTS[name])
    user = of_pod["securityContext"]
    assert user["runAsNonRoot"] and f"USER {user['runAsUser']}:{user['runAsGroup']}" in DOCKERFILE.read_text()
    assert user["seccompProfile"] == {"type": "RuntimeDefault"} and of_pod["automountServiceAccountToken"] is False
    assert of_container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert all(of_container["resources"][kind].keys() == {"cpu", "memory"} for kind in ("requests", "limits"))
    pause = int(of_container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pause + told(of_container["args"])[1]["stop_seconds"] < of_pod["terminationGracePeriodSeconds"]


def test_the_compose_file_is_as_its_specification_wants_it():
    place = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
    validator = jsonschema.Draft202012Validator(json.loads(place.read_text()))
    content = yaml.safe_load(COMPOSE.read_text())
    validator.validate(content)
    content["services"]["gateway"]["depend_on"] = ["branch-0"]
    with pytest.raises(jsonschema.ValidationError, match="depend_on"):
        validator.validate(content)


def test_the_compose_file_agrees_with_itself():
    content = yaml.safe_load(COMPOSE.read_text())
    for service in EDGE.values():
        _, values = told(service["command"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "user" not in service, "the image says who"
        assert set(service["networks"]) <= content["networks"].keys()
        files = [values[flag] for flag in ("token_file", "member_token_file") if values.get(flag)]
        assert {Path(path).name for path in files} <= set(service["secrets"]) <= content["secrets"].keys()
        (volume,) = service["volumes"]
        assert values["manifest"] == f"{volume['target']}/manifest.json" and volume["read_only"]
        asked = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", service["healthcheck"]["test"][-1])
        assert int(asked[1]) == values["http_port"] and asked[2] in rest.PUBLIC
        compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
        assert float(service["stop_grace_period"].rstrip("s")) > values["stop_seconds"]
        assert set(service.get("depends_on", {})) <= SERVED.keys()
        assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
        assert ROOT / service["build"]["dockerfile"] == DOCKERFILE
    _, values = told(EDGE["gateway"]["command"])
    inside = {int(port.rpartition(":")[2]) for port in EDGE["gateway"]["ports"]}
    assert inside == {values["port"], values["http_port"]}
    assert all(port.startswith("127.0.0.1:") for service in SERVED.values() for port in service.get("ports", []))


def test_tensorflow_serving_is_started_as_the_page_on_serving_says():
    page = (ROOT / "docs/serving.md").read_text()
    assert all(word in page for word in SERVED["tf-serving"]["command"])


def test_one_image_runs_everywhere():
    images = {container(found)["image"] for found in DEPLOYMENTS.values()} | {s["image"] for s in EDGE.values()}
    (image,) = images
    assert f"docker build -f deploy/docker/Dockerfile.edge -t {image} ." in DOCKERFILE.read_text()


def instructions() -> list[tuple[str, str]]:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip() and not line.startswith("#")]


def copied() -> list[tuple[list[str], str]]:
    """([names], folder) of each COPY from the repository into the image."""
    words = [rest.split() for step, rest in instructions() if step == "COPY" and not rest.startswith("--from")]
    return [(names, folder) for *names, folder in words]


def test_the_image_installs_the_package_and_starts_its_command():
    steps = instructions()
    assert [word for word, _ in steps] == [
        "FROM", "WORKDIR", "COPY", "COPY", "COPY", "RUN",
        "FROM", "WORKDIR", "COPY", "RUN", "COPY", "RUN", "ENV", "USER", "EXPOSE", "ENTRYPOINT",
    ]  # fmt: skip
    last = dict(steps)
    assert last["FROM"] == "python:3.11-slim" and ("FROM", "python:3.11-slim AS build") in steps
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    command, verb = json.loads(last["ENTRYPOINT"])
    assert command in project["scripts"] and verb in __main__.COMMANDS
    needed = {"pyproject.toml", "setup.py", project["readme"], *project["license-files"], "requirements-edge.txt"}
    names = {name for names, _ in copied() for name in names}
    assert names == needed | {"constraints.txt", "configs", "dico_tf"}
    ignored = Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == names
    ports = {port for words in COMMANDS.values() for port in map(told(words)[1].get, ("port", "http_port"))}
    assert {int(port) for port in last["EXPOSE"].split()} == ports


@pytest.mark.slow
def test_the_files_in_the_image_are_enough_to_build_and_start_the_package(tmp_path):
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    for names, folder in copied():
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    for verb in ("worker", "gateway"):
        words = [sys.executable, "-m", "dico_tf.cli", "serve", verb, "--help"]
        done = subprocess.run(words, cwd=tmp_path / "installed", capture_output=True, text=True)
        assert done.returncode == 0 and f"usage: dico serve {verb}" in done.stdout, done.stderr


def test_envoy_leads_to_the_gateways_and_looks_after_them():
    content = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())["static_resources"]
    (cluster,) = content["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = group["lb_endpoints"]
    place = endpoint["endpoint"]["address"]["socket_address"]
    service = SERVICES["dico-gateway"]["spec"]
    assert place["address"] == "dico-gateway" and place["port_value"] == service["ports"][0]["port"]
    assert cluster["type"] == "STRICT_DNS" and service["clusterIP"] == "None", "or it would see one address only"
    (check,) = cluster["health_checks"]
    assert check["grpc_health_check"]["service_name"] in ("", gateway.Gateway.name, grpc_server.INFERENCE)
    upstream = cluster["transport_socket"]["typed_config"]
    assert upstream["sni"] == place["address"]
    text = (DEPLOY / "envoy/envoy.yaml").read_text()
    assert {Path(name).name for name in re.findall(r"filename: ([\w/.]+)", text)} <= SECRETS["dico-tls"][
        "stringData"
    ].keys()
    assert f"cluster: {cluster['name']}" in text and cluster["load_assignment"]["cluster_name"] == cluster["name"]
