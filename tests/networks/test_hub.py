"""The hub, from a server on the loopback that speaks its protocol: downloads, the cache, and every way to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import safetensors.torch
import timm
import torch
from commands import ROOT, check_sentence
from servers import serving

from benchmark.cli import main
from featvis.errors import Unreachable, UserError
from featvis.networks import hub, weights
from featvis.networks.loading import load
from featvis.networks.names import resolve, unprefixed
from featvis.storage import fetch as fetching

TAG = "test_resnet.r160_in1k"
REPOSITORY = f"timm/{TAG}"
WAYS_OUT = "FEATVIS_WEIGHTS.*MODEL=efficientnet_lite0.*HF_HOME"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", pretrained=False)


@pytest.fixture(scope="module")
def data(net) -> bytes:
    return safetensors.torch.save(net.state_dict())


@pytest.fixture
def server(tmp_path, monkeypatch, data):
    """The hub with one file, and an empty cache."""
    with serving() as served:
        served.hub(REPOSITORY, "model.safetensors", data)
        for name, value in {
            "ENDPOINT": served.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": served.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        # What the client has for a default of its own.
        monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        for name in ("FEATVIS_WEIGHTS", "HF_HUB_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(hub, "_SILENCE", [])
        # Whoever answers may be slow; the tests of silence are impatient.
        monkeypatch.setattr(hub, "HUB_TIMEOUT", 120.0)
        monkeypatch.setattr(fetching, "SILENCE", 120.0)
        yield served


@pytest.fixture
def impatient(server, monkeypatch):
    """Little patience with a hub that keeps silent."""
    monkeypatch.setattr(hub, "HUB_TIMEOUT", 1.0)
    monkeypatch.setattr(fetching, "SILENCE", 0.5)


def blob(folder: Path) -> list[Path]:
    return [p for p in (folder / "hub").rglob("blobs/*") if not p.name.endswith(".lock")]


@pytest.mark.parametrize("name", [TAG, f"timm/{TAG}", f"hf-hub:timm/{TAG}"])
def test_a_network_is_downloaded_once(server, net, tmp_path, name):
    found = load(name, "float32")
    assert found.weights_hash == weights.content_hash(net)
    assert (found.alias, found.name, found.source) == (TAG, TAG, f"hub, {REPOSITORY}")
    asked = len(server.asked)
    assert server.gets() == [None], server.asked
    again = load(name, "float32")
    assert (again.weights_hash, again.source) == (found.weights_hash, f"cache of {REPOSITORY}")
    assert len(server.asked) == asked, "the cache asks nobody"


def test_the_endpoint_is_that_of_the_variable_and_a_layer_of_the_network_is_listed(server, tmp_path):
    """In a process of its own, as a user sets it; without a server the cache is enough."""
    env = {k: v for k, v in os.environ.items() if k not in ("FEATVIS_WEIGHTS", "HF_HUB_OFFLINE")}
    env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmark", "layers", f"hf-hub:{REPOSITORY}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"weights   {TAG}: hub, {REPOSITORY}"
    assert [p.name for p in (tmp_path / "home").rglob("snapshots/*/*")] == ["model.safetensors"]


def test_an_interrupted_download_goes_on(server, net, data):
    server.cut = [100_000, 50_000]
    assert load(TAG, "float32").weights_hash == weights.content_hash(net)
    assert server.gets() == [None, "bytes=100000-", "bytes=150000-"]


def test_what_a_killed_process_left_is_gone_on_with(server, net, data, tmp_path):
    server.cut = [100_000, 0]
    with pytest.raises(Unreachable, match="cannot be read any further"):
        load(TAG)
    (part,) = [p for p in blob(tmp_path) if p.name.endswith(".part")]
    assert part.read_bytes() == data[:100_000]
    assert load(TAG, "float32").weights_hash == weights.content_hash(net)
    assert server.gets()[-1] == "bytes=100000-"


def test_a_file_of_another_hash_is_refused_and_not_kept(server, data, tmp_path):
    server.hub(REPOSITORY, "model.safetensors", data, sha256="0" * 64)
    with pytest.raises(Unreachable, match=f"no weights for {TAG} here, and .*not the file expected.*{WAYS_OUT}"):
        load(TAG)
    assert blob(tmp_path) == []
    with pytest.raises(Unreachable, match="not the file expected"):
        load(TAG)


def test_a_file_that_is_no_weights_is_refused(server, data):
    server.hub(REPOSITORY, "model.safetensors", b"no tensors at all")
    with pytest.raises(UserError, match="cannot be read"):
        load(TAG)


@pytest.mark.parametrize(
    ("status", "error"), [(401, {"X-Error-Code": "GatedRepo"}), (401, {}), (403, {"X-Error-Code": "GatedRepo"})]
)
def test_a_login_is_asked_for(server, status, error):
    server.status, server.error = status, error or {"X-Error-Message": "Invalid username or password."}
    with pytest.raises(Unreachable, match=rf"after a login \({status}\).*`hf auth login` or set HF_TOKEN.*{WAYS_OUT}"):
        load(TAG)


def test_a_token_goes_to_the_hub_alone(server, net, data, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as other:
        path = f"/{REPOSITORY}/resolve/main/model.safetensors"
        other.files["/signed"] = data
        server.elsewhere[path] = f"{other.url}/signed"
        assert load(TAG, "float32").weights_hash == weights.content_hash(net)
        assert set(server.tokens) == {"Bearer hf_secret"}
        assert other.tokens == [None]


@pytest.mark.parametrize("silent", ["HEAD", "GET", "BODY"])
def test_a_hub_that_hangs_is_given_up(server, impatient, silent):
    server.silent = (silent,)
    with pytest.raises(Unreachable, match=f"no weights for {TAG} here, and .*no answer within.*{WAYS_OUT}"):
        load(TAG)
    # Each of them costs a user's patience, which is added up below; the client asks the API for other things too.
    asked = [method for method, path, _ in server.asked if not path.startswith("/api/")]
    assert asked == {"HEAD": ["HEAD"], "GET": ["HEAD", "GET"], "BODY": ["HEAD", "GET", "GET"]}[silent]


def test_the_patience_that_users_meet_adds_up_to_less_than_fifteen_seconds():
    """One question before, and a download that is asked for twice when it falls silent."""
    assert weights.HUB_TIMEOUT + 2 * (fetching.SILENCE + 1) <= 15


def test_older_repositories_have_another_file(server, net, tmp_path):
    server.files.clear()
    torch.save(net.state_dict(), tmp_path / "old.bin")
    server.hub(REPOSITORY, "pytorch_model.bin", (tmp_path / "old.bin").read_bytes())
    assert load(TAG, "float32").weights_hash == weights.content_hash(net)


def test_a_repository_without_weights_is_a_sentence(server):
    server.files.clear()
    with pytest.raises(Unreachable, match=f"{REPOSITORY} has neither model.safetensors nor pytorch_model.bin"):
        load(TAG)


def test_a_hub_in_trouble_is_a_sentence(server):
    server.status, server.error = 500, {"X-Error-Message": "out of order"}
    with pytest.raises(Unreachable, match=f"does not give {REPOSITORY}.*500.*{WAYS_OUT}"):
        load(TAG)


def test_nobody_there_or_nobody_wanted(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match=f"HF_HUB_OFFLINE is set.*{WAYS_OUT}"):
        load(TAG)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serving() as gone:
        pass
    template = gone.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(Unreachable, match=f"the hub cannot be reached.*{WAYS_OUT}"):
        load(TAG)
    assert server.asked == []


def test_a_hub_that_did_not_answer_is_not_asked_again_at_once(monkeypatch):
    asked, over = [], threading.Event()

    def silent(*args, **kwargs):
        asked.append(args)
        over.wait(60)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", silent)
    monkeypatch.setattr(hub, "_SILENCE", [])
    for timeout in (0.5, 30.0):
        with pytest.raises(fetching.NotFetched, match=r"the hub cannot be reached \(no answer within 0.5 s\)"):
            hub.find("timm/anything", timeout)
    assert len(asked) == 1
    over.set()


@pytest.mark.parametrize("error", [TimeoutError("timed out"), httpx.ReadTimeout("timed out"), httpx.ConnectTimeout("")])
def test_the_words_are_the_same_whose_ever_timeout_comes_first(monkeypatch, error):
    def late(*args, **kwargs):
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", late)
    monkeypatch.setattr(hub, "_SILENCE", [])
    with pytest.raises(fetching.NotFetched, match=r"the hub cannot be reached \(no answer within 2.5 s\)"):
        hub.find("timm/anything", 2.5)


def test_a_cache_that_cannot_be_written_is_a_sentence(server, tmp_path):
    (tmp_path / "hub").touch()
    with pytest.raises(Unreachable, match=f"no weights for {TAG} here, and they cannot be kept here"):
        load(TAG)


@pytest.mark.parametrize("name", ["hf-hub:somebody/net", "hf_hub:efficientnet_lite0"])
def test_other_repositories_are_refused(name):
    with pytest.raises(UserError, match=f"--model {name} is a repository .*not timm's own.*FEATVIS_WEIGHTS"):
        resolve(name)


def test_prefixes_are_taken_off_aliases_files_and_paths_alone():
    assert unprefixed("hf_hub:timm/vit_base_patch16_224.mae") == "vit_base_patch16_224.mae"
    for name in ("efficientnet_lite0", "wrap:timm/net.yaml", "resnet50.a1_in1k"):
        assert unprefixed(name) == name


# --- the folder of weights --------------------------------------------------------------------------------------------

ARCHITECTURE = "test_resnet"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(folder))
    return folder


def test_a_file_named_by_the_architecture_is_not_passed_over(folder, capsys):
    path = folder / "tf_efficientnet_lite0.safetensors"
    path.write_bytes(os.urandom(1000))
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        load("efficientnet_lite0")
    assert main(["layers", "efficientnet_lite0"]) == 2
    said = capsys.readouterr()
    check_sentence(2, said.err, [str(path)])
    assert said.out == ""


def test_a_file_without_a_tag_is_taken_where_it_says_its_tag(folder, net, capsys):
    path = folder / f"{ARCHITECTURE}.safetensors"
    safetensors.torch.save_file(net.state_dict(), path, metadata={"format": "pt"})
    with pytest.raises(Unreachable, match=rf"does not say whether.*rename it to {TAG}\.safetensors"):
        load(TAG)
    own = load(ARCHITECTURE, "float32")
    assert (own.name, own.weights_hash) == (ARCHITECTURE, weights.content_hash(net)), "by its own name it is taken"
    safetensors.torch.save_file(net.state_dict(), path, metadata={"architecture": TAG})
    assert load(TAG, "float32").weights_hash == weights.content_hash(net)
    assert main(["layers", TAG]) == 0
    assert capsys.readouterr().out.startswith(f"weights   {TAG}: {path}\n")


def test_what_the_file_of_an_alias_says_of_itself_is_heeded(folder):
    """How the network is made too; and metadata that any writer leaves is no other architecture."""
    other = timm.create_model(ARCHITECTURE, stem_width=16)
    facts = {"create_kwargs": json.dumps({"stem_width": 16})}
    safetensors.torch.save_file(other.state_dict(), folder / f"{TAG}.safetensors", metadata=facts)
    assert load(TAG, "float32").weights_hash == weights.content_hash(other)
    path = folder / "mobilenet.safetensors"
    safetensors.torch.save_file(other.state_dict(), path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="of another network than mobilenetv1_100"):
        load("mobilenet")
    safetensors.torch.save_file(other.state_dict(), path, metadata={"architecture": ARCHITECTURE})
    with pytest.raises(UserError, match=f"is of architecture {ARCHITECTURE}, and mobilenet of mobilenetv1_100"):
        load("mobilenet")


def test_a_network_of_the_suites_is_the_hubs_or_a_file_of_its_name(server, tmp_path, monkeypatch):
    """The bare name of an architecture has a tag here; a file under it is not said to be of that tag."""
    name, tag = "tf_mobilenetv3_small_100", "tf_mobilenetv3_small_100.in1k"
    torch.manual_seed(1)
    net = timm.create_model(name, pretrained=False)
    server.hub(f"timm/{tag}", "model.safetensors", safetensors.torch.save(net.state_dict()))
    found = load(name, "float32")
    assert (found.alias, found.name, found.source) == (name, tag, f"hub, timm/{tag}")
    assert found.weights_hash == weights.content_hash(net)
    torch.manual_seed(2)
    other = timm.create_model(name, pretrained=False)
    (tmp_path / "own").mkdir()
    facts = {"architecture": name, "mean": "[0.25, 0.5, 0.75]"}
    safetensors.torch.save_file(other.state_dict(), tmp_path / "own" / f"{name}.safetensors", metadata=facts)
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(tmp_path / "own"))
    found = load(name, "float32")
    assert (found.alias, found.name, found.weights_hash) == (name, name, weights.content_hash(other))
    assert found.mean.flatten().tolist() == [0.25, 0.5, 0.75]
