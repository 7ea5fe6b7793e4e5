"""`boxconv demo-app`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.config import expect
from ..inference.open import DEFAULT, open_layers, require_layers


@dataclass(frozen=True)
class DemoApp:
    """Try a network on a web page: drop a photo, see its classes, and what the answer at a pixel depends on."""

    network: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="[NETWORK]")] = Path(DEFAULT)
    """A run's folder or checkpoint, a .safetensors file, or a packaged network (boxenet-camvid, boxonlyenet-camvid)."""
    host: str = "127.0.0.1"
    """Address or name to listen at. With the default only this machine can reach the page."""
    port: int = 8000
    """0 takes any that is free."""
    device: str = "auto"


def run(args: DemoApp) -> None:
    require_layers(args.network)

    from box_convolution.deploy import keep_freed_memory

    from ..app.explorer import Explorer
    from ..app.server import Application, listen, serve
    from ..training.device import choose_device

    expect("port", 0 <= args.port <= 65535, "0 to 65535", args.port)
    listen(args.host, args.port).close()  # before the network is opened, which takes seconds
    device = choose_device(args.device)
    opened = open_layers(args.network)
    opened.model.to(device)
    keep_freed_memory()
    serve(Application(Explorer(args.network, opened), args.host), args.port, _announce)
    print()


def _announce(address: str, local: bool) -> None:
    print(f"{address} (ctrl-C ends it)", flush=True)
    if not local:
        print(
            "boxconv: warning: whoever reaches this machine over the network can use the page, without a password "
            "and without encryption",
            file=sys.stderr,
        )
