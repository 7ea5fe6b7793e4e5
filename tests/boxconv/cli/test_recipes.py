"""Recipes: each can be read and used, options override it, and messages name mistakes in it."""

import json
from pathlib import Path

import pytest
from command import printed

from box_convolution import networks
from boxconv.cli import commands
from boxconv.errors import UsageError
from boxconv.training import recipes
from boxconv.training.config import TrainConfig
from boxconv.training.schedule import learning_rate

NAMES = sorted(path.stem for path in recipes.FOLDER.glob("*.json"))
EXPERIMENTS = [line.split()[0] for line in recipes.listing().splitlines()]

NINE = {"enet", "boxenet", "boxenet-frozen", "enet-minus", "boxonlyenet",
        "erfnet", "boxerfnet", "boxerfnet-frozen", "erfnet-minus"}  # fmt: skip
VARIANTS = {
    "boxenet-symmetric": {"symmetric": True},
    "boxonlyenet-log-uniform": {"initial_boxes": "log-uniform"},
    "enet-long": {"epochs": 80},
    "enet-wide": {"dilations": (4, 8, 16, 32)},
}
# The experiments of Tables 1 and 2, and Table 1 again on data that everybody has.
PAPER = {
    "cityscapes": NINE,
    "camvid": NINE,
    "scenes": NINE | set(VARIANTS),
    "sunrgbd": {"enet", "boxenet", "boxenet-frozen", "enet-minus", "erfnet", "boxerfnet"},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid(name: str) -> None:
    config = recipes.settings(name)
    assert config.data == name.split("-")[0]
    if name in EXPERIMENTS:
        experiment = name.split("-", 1)[1].removeprefix("full-")
        variant = VARIANTS.get(experiment, {})
        assert variant == {key: getattr(config, key) for key in variant}
        assert config.network.replace("_", "-") == (experiment.partition("-")[0] if variant else experiment)
    root = None if config.data == "scenes" else Path("somewhere")
    TrainConfig(**{**vars(config), "root": root}).check()


def test_the_paper_is_complete() -> None:
    for data, names in PAPER.items():
        found = {name.removeprefix(f"{data}-") for name in EXPERIMENTS if name.startswith(data)}
        assert names == {name for name in found if not name.startswith("full-")}


def test_settings_of_the_paper() -> None:
    city = recipes.settings("cityscapes-boxenet")
    assert (city.size, city.batch_size, city.lr, city.weight_decay) == ((512, 1024), 12, 1e-3, 2e-4)
    rates = [learning_rate(city, epoch / city.epochs) for epoch in (0, 599, 600, 779, 780, 1299)]
    assert rates == pytest.approx([1e-3, 1e-3, 0.45e-3, 0.45e-3, 0.45**2 * 1e-3, 0.45**8 * 1e-3])
    sun = recipes.settings("sunrgbd-boxenet")
    assert (sun.size, sun.border, sun.train_split, sun.val_split) == ((528, 728), 1, "train", "test")
    assert sun.mean != city.mean


def test_options_come_before_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.json"
    content = {
        "about": "a test", "network": "enet_minus", "epochs": 3, "size": [16, 32], "batch_size": 2,
        "scenes_per_epoch": 4, "scenes_for_validation": 2, "lr": 0.004,
    }  # fmt: skip
    recipe.write_text(json.dumps(content))
    out = tmp_path / "run"
    status, text = printed(capsys, "train", "--recipe", str(recipe), "--out", str(out), "--epochs", "1", "--quiet")
    assert status == 0, text
    config = json.loads((out / "config.json").read_text())["config"]
    assert (config["epochs"], config["lr"], config["network"], config["size"]) == (1, 0.004, "enet_minus", [16, 32])
    # Resuming asks for nothing but the run.
    status, text = printed(capsys, "train", "--recipe", str(recipe), "--out", str(out), "--resume", "--quiet")
    assert status == 0, text
    assert printed(capsys, "train", "--recipe", str(recipe), "--out", str(out), "--resume", "--lr", "1")[0] == 2
    # What a run leaves is a recipe.
    again = tmp_path / "again.json"
    again.write_text(json.dumps(config))
    expected = TrainConfig(**{**config, **{
        name: tuple(value) for name, value in config.items() if isinstance(value, list)
    }})  # fmt: skip
    assert recipes.settings(str(again)) == recipes.settings(str(out / "config.json")) == expected


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = printed(capsys, "train", "--recipe", "help")
    assert status == 0
    assert "cityscapes-boxenet  " in text
    assert "64.6 %" in text


def test_data_root_is_another_name_of_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = printed(capsys, "train", "--recipe=cityscapes-boxenet", "--data-root", str(tmp_path / "nowhere"))
    assert (status, "nowhere does not exist" in text) == (1, True)
    assert printed(capsys, "train", "--recipe", "sunrgbd-enet")[0] == 2


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object of settings, found list"),
        ('{"epoch": 3}', "unknown settings: epoch"),
        ('{"epochs": "3"}', "epochs must be an integer, found '3'"),
        ('{"flip": 1}', "flip must be true or false, found 1"),
        ('{"epochs": true}', "epochs must be an integer, found True"),
        ('{"size": 16}', "size must be a list of 2 integers, found 16"),
        ('{"size": [16]}', r"size must be a list of 2 integers, found \[16\]"),
        ('{"milestones": [1, "a"]}', "milestones must be a list of integers, found"),
        ('{"crop": 5}', "crop must be a list of 2 integers or null, found 5"),
        ('{"start_from": 3}', "start_from must be a path or null, found 3"),
        ('{"schedule": "polly"}', 'schedule must be "poly" or "step" or "constant", found'),
        ('{"mean": [0, 0, true]}', "mean must be a list of numbers, found"),
        ('{"base": 3}', "base must be a text, found 3"),
        ('{"lr": "fast"}', "lr must be a number"),
        ('{"base": "SELF"}', "is its own base"),
        ('{"base": "nothing"}', "neither a recipe nor a file: 'nothing'"),
    ],
)
def test_slips_in_a_recipe(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "slip.json"
    path.write_text(content.replace("SELF", str(path)))
    with pytest.raises(UsageError, match=words):
        recipes.settings(str(path))


def test_unknown_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = printed(capsys, "train", "--recipe", "cityscapes-boxnet")
    assert (status, "did you mean cityscapes-boxenet?" in text) == (2, True)
    assert "--recipe help" in printed(capsys, "train", "--recipe", "../recipes/cityscapes")[1]


def test_networks_of_the_recipes_exist() -> None:
    assert {recipes.settings(name).network for name in EXPERIMENTS} <= set(networks.names())


def started(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> TrainConfig:
    """The settings of a run with these options."""
    tiny = ["--size", "16", "32", "--epochs", "1", "--scenes-per-epoch", "2", "--scenes-for-validation", "1"]
    out = tmp_path / "-".join(options).replace("/", "")
    status, text = printed(capsys, "train", *options, *tiny, "--batch-size", "2", "--quiet", "--out", str(out))
    assert status == 0, text
    return recipes.settings(str(out / "config.json"))


def test_without_a_recipe_settings_are_those_found_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = started(tmp_path, capsys)
    assert (found.network, found.lr, found.box_lr, found.box_weight_decay) == ("boxenet", 8e-3, 2.0, 0.0)
    assert found.box_dropout == (0.01, 0.1, 0.0, 0.0)
    assert printed(capsys, "train", "--out", tmp_path, "--quiet", "--resume")[0] == 0
    erfnet = started(tmp_path, capsys, "--network=boxerfnet")
    assert erfnet.box_dropout == (), "those of its plain blocks"
    assert (erfnet.lr, erfnet.box_lr, erfnet.box_weight_decay) == (2e-3, 4.0, 0.0)
    photographs = commands.parse(["train", "--data", "camvid", "--root", "."])
    assert (photographs.lr, photographs.box_lr) == (2e-3, 4.0)
    assert started(tmp_path, capsys, "--network", "enet").box_dropout == (), "it has no box blocks"
    asked = started(tmp_path, capsys, "--box-dropout", "0.15", "0.25", "0.15", "0.15", "--box-lr", "1")
    assert (asked.box_dropout, asked.box_lr) == ((0.15, 0.25, 0.15, 0.15), 1.0)
    paper = recipes.settings("cityscapes-boxenet")
    assert (paper.box_lr, paper.box_weight_decay, paper.box_dropout) == (1.0, None, ()), "the paper's, as before"
