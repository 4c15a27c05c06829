"""A pretrained diffusion model, distilled, exported and loaded again in plain diffusers:  python -m benchmarks.pretrained"""


def main() -> None:
    """Run it."""
    from .run import main as run

    run()
