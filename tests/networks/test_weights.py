"""Networks in safetensors files, and on the Hugging Face Hub."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from box_convolution import networks
from box_convolution.networks import weights

DESCRIPTION = {"name": "boxenet", "num_classes": 4, "input_size": [32, 48], "options": {"dropout": [0.0, 0.2]}}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = networks.create("boxenet", 4, (32, 48), dropout=(0.0, 0.2))
    network(torch.randn(2, 3, 32, 48))
    return network.eval()


@pytest.fixture
def path(network: nn.Module, tmp_path: Path) -> Path:
    weights.save(network, tmp_path / "net.safetensors", DESCRIPTION, classes=["a", "b", "c", "d"])
    return tmp_path / "net.safetensors"


def assert_equal(network: nn.Module, other: nn.Module) -> None:
    image = torch.randn(1, 3, 30, 48)
    assert torch.equal(network(image), other.eval()(image))
    assert repr(network) == repr(other), "options too"


def test_there_and_back(network: nn.Module, path: Path) -> None:
    loaded, content = weights.load(path)
    assert loaded.training
    assert content == {"network": DESCRIPTION, "classes": ["a", "b", "c", "d"]}
    assert_equal(network, loaded)


def test_readable_by_others(network: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(path)
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_unusable_files(network: nn.Module, path: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"nonsense", path.read_bytes()[:-100]):
        bad.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=r"bad\.safetensors: not a safetensors file, or damaged"):
            weights.load(bad)
    save_file({"a": torch.zeros(1)}, bad)
    with pytest.raises(weights.WeightsError, match="does not say which network"):
        weights.load(bad)
    for change, message in (({"name": "resnet"}, "name must be one of"), ({"num_classes": 5}, "size mismatch")):
        metadata = {weights.KEY: json.dumps({"network": DESCRIPTION | change})}
        save_file(network.state_dict(), bad, metadata=metadata)
        with pytest.raises(weights.WeightsError, match="describes a network that cannot be made") as error:
            weights.load(bad)
        assert message in str(error.value)
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / "none.safetensors")


def test_hub_folder(network: nn.Module, path: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    from box_convolution.networks.hub import HubNetwork

    hub = HubNetwork.from_file(path)
    assert_equal(network, hub.network)
    hub.save_pretrained(tmp_path / "folder")
    assert {"config.json", "model.safetensors", "README.md"} <= {file.name for file in (tmp_path / "folder").iterdir()}
    loaded = HubNetwork.from_pretrained(tmp_path / "folder")
    assert not loaded.training
    assert loaded.description == DESCRIPTION
    assert loaded.about == {"classes": ["a", "b", "c", "d"]}
    assert_equal(network, loaded.network)
    assert torch.equal(loaded(torch.ones(1, 3, 32, 48)), network(torch.ones(1, 3, 32, 48)))
    assert_equal(network, weights.load(tmp_path / "folder" / "model.safetensors")[0])


def test_the_card_has_the_metadata_of_the_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from box_convolution.networks.hub import HubNetwork
    from box_convolution.networks.pretrained import file_of

    HubNetwork.from_file(file_of("boxenet", "camvid")).save_pretrained(tmp_path)
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert data.license == "cc-by-nc-4.0"
    assert (data.library_name, data.pipeline_tag) == ("box-convolution", "image-segmentation")
    assert "semantic-segmentation" in data.tags
    scores = {result.metric_name: result.metric_value for result in data.eval_results}
    assert scores["class IoU"] == pytest.approx(0.664, abs=1e-3)
    other = HubNetwork("enet", 2, (16, 16), about={"licence": "Our own"}).generate_model_card()
    assert (other.data.license, other.data.license_name) == ("other", "our-own")


def test_the_licence_is_on_the_card(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    from box_convolution.networks.hub import HubNetwork

    for about, expected in (({"licence": "CC BY 4.0"}, True), ({}, False)):
        HubNetwork("boxonlyenet", 2, (32, 32), about=about).save_pretrained(tmp_path)
        assert ("Licence of the weights: CC BY 4.0." in (tmp_path / "README.md").read_text()) == expected
        (tmp_path / "README.md").unlink()


def test_pushing_sends_that_folder(network: nn.Module, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import HfApi

    from box_convolution.networks.hub import HubNetwork

    sent: dict[str, bytes] = {}

    def upload_folder(self, *, folder_path: str, **kwargs: object) -> str:
        sent.update({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})
        return "done"

    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(HfApi, "create_repo", lambda self, *args, **kwargs: type("Repo", (), {"repo_id": "user/net"}))
    HubNetwork.from_file(path).push_to_hub("user/net")
    assert json.loads(sent["config.json"])["name"] == "boxenet"
    path.write_bytes(sent["model.safetensors"])
    assert_equal(network, weights.load(path)[0])


def test_neither_is_imported_unasked() -> None:
    program = "import sys, box_convolution.networks.weights; print({'safetensors', 'huggingface_hub'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_other_channels_travel_with_the_file(tmp_path: Path) -> None:
    import numpy as np

    network = networks.create("boxonlyenet", 4, (32, 48), in_channels=2).eval()
    description = DESCRIPTION | {"name": "boxonlyenet", "options": {"in_channels": np.int64(2)}}
    weights.save(network, tmp_path / "net.safetensors", description)
    loaded, content = weights.load(tmp_path / "net.safetensors")
    assert content["network"]["options"] == {"in_channels": 2}
    image = torch.randn(1, 2, 30, 48)
    assert torch.equal(loaded.eval()(image), network(image))
