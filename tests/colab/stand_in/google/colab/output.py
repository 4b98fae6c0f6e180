"""Pages of the runtime, shown below a cell: here they are asked for, so that one that does not answer is an error."""

import urllib.request


def serve_kernel_port_as_iframe(port: int, path: str = "/", **size: object) -> None:
    """Ask for the page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as page:
        print(f"a frame of {len(page.read())} bytes")


def serve_kernel_port_as_window(port: int, path: str = "/", **text: object) -> None:
    """Ask for the page."""
    serve_kernel_port_as_iframe(port, path)
