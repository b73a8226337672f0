"""Promise: the manifests are valid, and say what keeps requests whole and strangers out."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from actionrec_gateway.contracts.container import DRAIN_SECONDS
from tests.conftest import PROJECT

HERE = PROJECT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
VERSIONS = ("1.30", "1.34")
"""Of Kubernetes: an old one that is still run, and a new one."""
CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule", "ServingRuntime", "InferenceService"}
"""Kinds that Kubernetes itself does not know."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def render(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    """What ``kubectl kustomize`` makes of an overlay."""
    return render(HERE / "overlays" / overlay)


def the(overlay: str, kind: str, name: str = "actionrec") -> dict[str, Any]:
    (found,) = [
        document
        for document in rendered(overlay)
        if document["kind"] == kind and document["metadata"]["name"].startswith(name)
        if kind != "Service" or document["metadata"]["name"] == name
    ]
    return found


def pod(overlay: str) -> dict[str, Any]:
    found: dict[str, Any] = the(overlay, "Deployment")["spec"]["template"]["spec"]
    return found


def container(overlay: str) -> dict[str, Any]:
    spec = the(overlay, "ServingRuntime")["spec"] if overlay == "kserve" else pod(overlay)
    (found,) = spec["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_them(overlay: str, version: str) -> None:
    """Every document of its own kinds fits Kubernetes' schema, with no field that it does not know."""
    kinds = set()
    for document in rendered(overlay):
        kinds.add(document["kind"])
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
    assert kinds >= {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap"}


def test_the_check_finds_faults() -> None:
    """A field with another name, or of another type, is refused."""
    document = the("cpu", "Deployment")
    for changed in ({"replicaz": 2}, {"minReadySeconds": "five"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**document, "spec": document["spec"] | changed}, "1.34", strict=True)


@pytest.mark.parametrize("overlay", [*OVERLAYS, "kserve"])
def test_probes(overlay: str) -> None:
    """Ready: every model has just predicted. Alive: the gateway answers. A start may take minutes."""
    its = container(overlay)
    paths = [its[probe]["httpGet"]["path"] for probe in PROBES]
    assert paths == (
        ["/ready", "/ready", "/health"]
        if overlay != "kserve"
        else ["/v2/health/ready", "/v2/health/ready", "/v2/health/live"]
    )
    assert its["startupProbe"]["periodSeconds"] * its["startupProbe"]["failureThreshold"] >= 300
    assert all(its[probe]["timeoutSeconds"] >= 5 for probe in PROBES)  # the gateway itself answers within 2 s


@pytest.mark.parametrize("overlay", [*OVERLAYS, "kserve"])
def test_a_pod_drains(overlay: str) -> None:
    """It hears of its end late enough to get no new requests, and has time for those that it has."""
    command = container(overlay)["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    spec = pod(overlay) if overlay != "kserve" else the(overlay, "InferenceService")["spec"]["predictor"]
    assert spec["terminationGracePeriodSeconds"] >= int(command[1]) + DRAIN_SECONDS + 15


@pytest.mark.parametrize("overlay", [*OVERLAYS, "kserve"])
def test_the_restricted_profile(overlay: str) -> None:
    """Each container is one that the restricted Pod Security Standard admits, on a root that is read-only."""
    spec = pod(overlay) if overlay != "kserve" else the(overlay, "ServingRuntime")["spec"]
    for its in (*spec["containers"], *spec.get("initContainers", ())):
        both = {**spec.get("securityContext", {}), **its["securityContext"]}
        assert both["runAsNonRoot"] is True
        assert both["runAsUser"] > 0
        assert both["seccompProfile"] == {"type": "RuntimeDefault"}
        assert both["allowPrivilegeEscalation"] is False
        assert both["capabilities"] == {"drop": ["ALL"]}
        assert both["readOnlyRootFilesystem"] is True
        mounts = {mount["mountPath"] for mount in its["volumeMounts"] if not mount.get("readOnly")}
        assert mounts == {"/tmp", "/var/lib/actionrec"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_update_takes_no_pod_away_first(overlay: str) -> None:
    """A new pod is ready before an old one ends, and a node that is drained takes one pod at a time."""
    spec = the(overlay, "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert "replicas" not in spec, "an update would undo what the autoscaler did"
    budget = the(overlay, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == spec["selector"]
    keys = {spread["topologyKey"] for spread in pod(overlay)["topologySpreadConstraints"]}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert pod(overlay)["automountServiceAccountToken"] is False
    assert pod(overlay)["enableServiceLinks"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network(overlay: str) -> None:
    """The gateway's port, and for Prometheus the metrics, can be reached; 8081 from nowhere; out go names."""
    spec = the(overlay, "NetworkPolicy")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert spec["podSelector"]["matchLabels"] == the(overlay, "Deployment")["spec"]["selector"]["matchLabels"]
    assert all(rule["from"] for rule in spec["ingress"]), "open to all"
    ports = [{port["port"] for port in rule["ports"]} for rule in spec["ingress"]]
    assert ports == [{8000}, {8000, 8082}]
    assert [{port["port"] for port in rule["ports"]} for rule in spec["egress"]] == [{53}]
    shown = {port["containerPort"] for port in container(overlay)["ports"]}
    assert shown == {8000, 8082}
    config = the(overlay, "ConfigMap")["data"]["config.properties"]
    assert "management_address=http://127.0.0.1:8081" in config, "the policy would be the only defence"
    service = the(overlay, "Service")["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(80, "http")]


def test_the_servers_settings() -> None:
    """The ConfigMap is the project's `config.properties`, but for the metrics' address; pods get it so."""
    ours = (PROJECT / "config.properties").read_text()
    metrics = "metrics_address=http://{}:8082"
    expected = ours.replace(metrics.format("127.0.0.1"), metrics.format("0.0.0.0"))
    assert ours != expected
    for overlay in OVERLAYS:
        config = the(overlay, "ConfigMap")
        assert config["data"]["config.properties"] == expected
        (volume,) = [volume for volume in pod(overlay)["volumes"] if "configMap" in volume]
        assert volume["configMap"]["name"] == config["metadata"]["name"], "a change would start no new pods"
    variables = {entry["name"]: entry["value"] for entry in container("cpu")["env"]}
    assert variables == {"ENGINE_PORT": "8080", "AIP_HTTP_PORT": "8000"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_resources(overlay: str) -> None:
    """Processor, memory and disk are asked for; memory and disk are bounded; a GPU's pod has one GPU."""
    its = container(overlay)["resources"]
    assert {"cpu", "memory", "ephemeral-storage"} <= its["requests"].keys()
    assert {"memory", "ephemeral-storage"} <= its["limits"].keys()
    assert "cpu" not in its["limits"]
    assert (its["limits"].get("nvidia.com/gpu") == 1) is (overlay == "gpu")
    bound = [volume["emptyDir"] for volume in pod(overlay)["volumes"] if "emptyDir" in volume]
    assert all("sizeLimit" in volume for volume in bound)


def test_scaling() -> None:
    """By the processor or by what waits, between the same bounds: up at once, down slowly, one pod a minute."""
    plain = the("cpu", "HorizontalPodAutoscaler")["spec"]
    keda = the("gpu", "ScaledObject")["spec"]
    assert (plain["minReplicas"], plain["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert plain["minReplicas"] >= 2, "one pod that is lost would be all"
    assert plain["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    down = plain["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert plain["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    waiting = keda["triggers"][0]
    assert waiting["type"] == "prometheus"
    assert "actionrec_requests_waiting" in waiting["metadata"]["query"]
    assert float(waiting["metadata"]["threshold"]) > 0
    assert keda["fallback"]["replicas"] >= keda["minReplicaCount"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "actionrec"}
    assert plain["scaleTargetRef"] == target
    assert keda["scaleTargetRef"]["name"] == target["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_prometheus_finds_the_pods(overlay: str) -> None:
    """The ServiceMonitor selects the Service of metrics, by its ports, under names that the alerts know."""
    monitor = the(overlay, "ServiceMonitor")["spec"]
    service = next(doc for doc in rendered(overlay) if doc["metadata"]["name"] == "actionrec-metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    plain = next(
        doc for doc in rendered(overlay) if doc["kind"] == "Service" and doc["metadata"]["name"] == "actionrec"
    )
    assert not monitor["selector"]["matchLabels"].items() <= plain["metadata"]["labels"].items(), (
        "counted twice"
    )
    assert service["spec"]["clusterIP"] == "None"
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == ports
    config = yaml.safe_load((PROJECT / "deploy/observability/prometheus.yml").read_text())
    jobs = [endpoint["relabelings"][0]["replacement"] for endpoint in monitor["endpoints"]]
    assert jobs == [job["job_name"] for job in config["scrape_configs"]]
    rules = yaml.safe_load((PROJECT / "deploy/observability/rules/actionrec.yml").read_text())
    assert the(overlay, "PrometheusRule")["spec"] == rules


def test_kserve() -> None:
    """Runtime and service have fields that KServe knows; the service names runtime, format and protocol."""
    from kserve.models import V1alpha1ServingRuntimeSpec, V1beta1InferenceServiceSpec, V1beta1PredictorSpec

    runtime, service = the("kserve", "ServingRuntime"), the("kserve", "InferenceService")
    for spec, model in (
        (runtime["spec"], V1alpha1ServingRuntimeSpec),
        (service["spec"], V1beta1InferenceServiceSpec),
        (service["spec"]["predictor"], V1beta1PredictorSpec),
    ):
        assert spec.keys() <= set(model.attribute_map.values())
    wanted = service["spec"]["predictor"]["model"]
    assert wanted["runtime"] == runtime["metadata"]["name"]
    assert wanted["modelFormat"] in [
        {key: each[key] for key in ("name", "version")} for each in runtime["spec"]["supportedModelFormats"]
    ]
    assert wanted["protocolVersion"] in runtime["spec"]["protocolVersions"]
    its = container("kserve")
    assert its["name"] == "kserve-container"
    assert its["image"] == container("cpu")["image"]
    assert its["args"] == ["serve"]
    (port,) = its["ports"]
    assert {entry["name"]: entry["value"] for entry in its["env"]} == {
        "AIP_HTTP_PORT": str(port["containerPort"])
    }


def with_component(component: str, name: str) -> dict[str, Any]:
    """The pods of the base with a component added."""
    # kustomize takes relative paths only, so the overlay lies beside the others.
    overlay = HERE / "overlays" / f".{name}"
    overlay.mkdir()
    try:
        (overlay / "kustomization.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kustomize.config.k8s.io/v1beta1",
                    "kind": "Kustomization",
                    "resources": ["../../base"],
                    "components": [f"../../components/{component}"],
                }
            )
        )
        documents = render(overlay)
    finally:
        (overlay / "kustomization.yaml").unlink()
        overlay.rmdir()
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("component", ["models-volume", "models-store"])
def test_where_archives_come_from(component: str, tmp_path: Path) -> None:
    """From a volume, or by an init container that checks them: they lie where the server looks, read-only."""
    spec = with_component(component, tmp_path.name)
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/opt/ml/model"]["readOnly"] is True
    if component == "models-store":
        (first,) = spec["initContainers"]
        assert first["command"] == ["python", "-m", "deploy.container.fetch"]
        assert first["image"] == spec["containers"][0]["image"]
        assert first["securityContext"]["readOnlyRootFilesystem"] is True


def test_tokens(tmp_path: Path) -> None:
    """Where the gateway is to ask for tokens, it reads them from a Secret that only its group can read."""
    spec = with_component("tokens", tmp_path.name)
    variables = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    file = Path(variables["GATEWAY_TOKENS"])
    mount = mounts[str(file.parent)]
    assert mount["readOnly"] is True
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    assert volume["secret"] == {"secretName": "actionrec-tokens", "defaultMode": 0o440}
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
