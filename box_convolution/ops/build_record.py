"""What pip has recorded about this installation: why the C++ kernels are missing, and the command that builds them."""

import json
import sys
from importlib import metadata
from urllib.parse import unquote, urlparse

_RECORD = "kernels_not_built.txt"  # written by build_backend/backend.py


def reason() -> str:
    """Return why there are no kernels: the compiler and the first line of its error; "" if that is not known."""
    return _text(_RECORD).strip()


def reinstall() -> str:
    """Return the command that builds the kernels once a compiler is installed."""
    return f"{sys.executable} -m pip install --force-reinstall --no-deps --no-cache-dir {_source()}"


def _source() -> str:
    """Return what pip was asked to install: a folder, a file or an address."""
    try:
        found = json.loads(_text("direct_url.json"))
        address = urlparse(found["url"])
    except (ValueError, KeyError, TypeError):
        return "<what it was installed from>"
    if "vcs_info" in found:
        return f"'{found['vcs_info']['vcs']}+{found['url']}@{found['vcs_info']['commit_id']}'"
    place = unquote(address.path) if address.scheme == "file" else found["url"]
    return f"{'-e ' if found.get('dir_info', {}).get('editable') else ''}'{place}'"


def _text(name: str) -> str:
    try:
        return metadata.distribution("box_convolution").read_text(name) or ""
    except metadata.PackageNotFoundError:
        return ""
