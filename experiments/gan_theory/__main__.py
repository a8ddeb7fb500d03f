"""Run the experiment from the command line."""

import sys

import tyro

from . import SMOKE, Config, main

if __name__ == "__main__":
    arguments = [word for word in sys.argv[1:] if word != "--smoke"]
    default = SMOKE if "--smoke" in sys.argv[1:] else Config()
    config = tyro.cli(
        Config,
        args=arguments,
        default=default,
        description="What the lecture proves about GANs. --smoke: a short run.",
    )
    summary = main(config)
    for name, numbers in summary["findings"].items():
        print(f"{name}: {numbers}")
    print(f"expected result: {summary['checks']}")
    print(f"pictures and summary.json: {config.out} ({summary['seconds']} s)")
    sys.exit(0 if all(summary["checks"].values()) else 1)
