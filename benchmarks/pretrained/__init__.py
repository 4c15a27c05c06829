"""A model of diffusers, distilled, exported, sampled by plain diffusers:  python -m benchmarks.pretrained"""


def main() -> None:
    """Run it."""
    from benchmarks.pretrained.run import main as run

    run()
