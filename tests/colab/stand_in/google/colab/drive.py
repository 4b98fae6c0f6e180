"""Google Drive: a folder."""

from pathlib import Path


def mount(mountpoint: str, force_remount: bool = False) -> None:
    """Make the folder that Drive would be."""
    Path(mountpoint, "My Drive").mkdir(parents=True, exist_ok=True)
    print(f"Mounted at {mountpoint}")
