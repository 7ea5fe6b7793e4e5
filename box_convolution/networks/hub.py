"""Networks on the Hugging Face Hub. Needs huggingface_hub, which `import box_convolution` does not import.

>>> from box_convolution.networks.hub import HubNetwork
>>> network = HubNetwork("boxenet", num_classes=11, input_size=(360, 480))
>>> network.save_pretrained("camvid-boxenet")                  # or network.push_to_hub("user/camvid-boxenet")
>>> network = HubNetwork.from_pretrained("camvid-boxenet")     # a folder, or "user/camvid-boxenet"

The folder has config.json, a model card, and model.safetensors, a complete file as `weights` writes it. Trained weights
are subject to the licence of their training data: name it in the card.
"""

from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..argument_checks import as_int, as_size
from ..extras import require
from . import weights

require("the Hugging Face Hub", "huggingface_hub", "safetensors")
from huggingface_hub import EvalResult, PyTorchModelHubMixin, hf_hub_download  # noqa: E402 - with a better message than Python's own

# In the Hub's spelling. It lists other licences as "other", with a name.
_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
_SCORES = {"class_iou": "class IoU", "category_iou": "category IoU", "pixel_accuracy": "pixel accuracy"}


class HubNetwork(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="box-convolution",
    pipeline_tag="image-segmentation",
    tags=["pytorch", "semantic-segmentation", "box-convolution"],
    paper_url="https://papers.nips.cc/paper/7859-deep-neural-networks-with-box-convolutions",
):
    """A network for the Hugging Face Hub; (B, in_channels, H, W) -> logits (B, num_classes, H, W).

    Args:
        name, num_classes, input_size: as for `box_convolution.networks.create`, which makes ``.network``.
        options: further arguments of `create`.
        about: further plain values to store with the weights, such as the class table.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        input_size: tuple[int, int] | list[int],
        options: dict[str, Any] | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.description = {
            "name": name,
            "num_classes": as_int("num_classes", num_classes, least=1),
            "input_size": list(as_size("input_size", input_size)),
            "options": options or {},
        }
        self.about = about or {}
        self.network = weights.create_from(self.description)

    @classmethod
    def from_file(cls, path: str | Path) -> "HubNetwork":
        """Load a file that `box_convolution.networks.weights.save` wrote; the network is in evaluation mode."""
        network, content = weights.load(path)
        hub = cls(**content.pop("network"), about=content)
        hub.network = network.eval()
        return hub

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        card: Any = super().generate_model_card(*args, **kwargs)
        if "licence" in self.about:
            card.text += f"\n\nLicence of the weights: {self.about['licence']}.\n"
            name = str(self.about["licence"]).partition(",")[0].lower().replace(" ", "-")
            card.data.license = name if name in _LICENCES else "other"
            card.data.license_name = None if name in _LICENCES else name
        if "scores" in self.about:
            data = str(self.about.get("data", "validation images"))
            card.data.model_name = self.description["name"]
            card.data.eval_results = [
                EvalResult("image-segmentation", data, data, key, self.about["scores"][key], metric_name=metric)
                for key, metric in _SCORES.items()
                if key in self.about["scores"]
            ]
        return card

    def _save_pretrained(self, save_directory: Path) -> None:
        weights.save(self.network, Path(save_directory) / "model.safetensors", self.description, **self.about)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **more: Any
    ) -> "HubNetwork":
        """Called by `from_pretrained` of huggingface_hub; ``more``: options of the download and of __init__."""
        download = {key: more.pop(key) for key in list(more) if key in signature(hf_hub_download).parameters}
        file = Path(model_id) / "model.safetensors"
        if not Path(model_id).is_dir():
            file = Path(hf_hub_download(model_id, "model.safetensors", **download))
        network, _ = weights.load(file)
        made = cls(**more)
        made.network.load_state_dict(network.state_dict(), strict=strict)
        return made.eval().to(map_location)
