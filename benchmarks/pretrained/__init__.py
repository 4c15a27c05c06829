"""A diffusers model distilled, exported and sampled with unmodified diffusers:  python -m benchmarks.pretrained"""


def main() -> None:
    """Run the benchmark."""
    from benchmarks.pretrained.run import main as run

    run()
