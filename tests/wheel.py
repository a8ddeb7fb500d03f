"""Use the wheel as somebody does who has no checkout: `make wheel-test`.

Builds the wheel, installs it in a new environment of the running Python, and in an
empty folder imports every module, trains, samples and evaluates recipes, moves a run,
edits a copy of a recipe, and compares rules. Prints one line per step; ends with
exit code 1, and the output of the step, at the first that fails.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

LEFT_OUT = re.compile(r"(^|/)(results|papers|tests|benchmarks|docs)/|\.(png|gif|csv)$")
"""What stays in the checkout."""

SHIPPED = {
    "gamedyn/py.typed",
    "gamedyn/experiments/dcgan/__init__.py",
    "gamedyn/experiments/ddpm/expected.json",
}
"""Some of what must not."""

IMPORT_ALL = """
import importlib, pkgutil
import gamedyn

names = [m.name for m in pkgutil.walk_packages(gamedyn.__path__, "gamedyn.")]
assert "gamedyn.experiments.gan_vs_diffusion.points" in names
for name in names:
    importlib.import_module(name)
"""


class Failed(Exception):
    """A step failed; the message is what it printed."""


class User(NamedTuple):
    """Somebody with an environment of their own and an empty folder.

    Attributes:
        folder: where they work.
        environment: the folder of their environment.
        variables: what their shell exports.
    """

    folder: Path
    environment: Path
    variables: dict[str, str]

    @property
    def bin(self) -> Path:
        """The programs of the environment."""
        return self.environment / ("Scripts" if os.name == "nt" else "bin")

    def run(self, *command: str | Path) -> str:
        """Run a command in the folder and return what it prints.

        Raises:
            Failed: if its exit code is not 0.
        """
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            words = " ".join(map(str, command))
            raise Failed(f"{words}\n{done.stdout}\nexit code {done.returncode}")
        return done.stdout

    def gamedyn(self, *arguments: str) -> str:
        """Run the package's command."""
        return self.run(self.bin / "gamedyn", *arguments)

    def pip(self, *arguments: str | Path) -> None:
        """Run pip of the environment."""
        quiet = ("--quiet", "--disable-pip-version-check")
        self.run(self.bin / "python", "-m", "pip", arguments[0], *quiet, *arguments[1:])


def new_user(work: Path) -> User:
    """Make a user below a folder, without what may help here.

    That is: paths to the checkout, an environment that is active, a stored classifier,
    flags that compile faster.
    """
    helpful = ("PYTHON", "VIRTUAL_ENV", "GAMEDYN_", "XLA_FLAGS")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(helpful)}
    variables["GAMEDYN_CACHE"] = str(work / "cache")
    (work / "empty").mkdir()
    return User(work / "empty", work / "environment", variables)


def check_contents(wheel: Path) -> None:
    """Check that the wheel holds the code, and nothing of the checkout but that.

    Raises:
        Failed: if it does not.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        leaks = [name for name in names if os.fsencode(ROOT) in archive.read(name)]
    wrong = [name for name in names if LEFT_OUT.search(name)]
    wrong += [name for name in names if not name.startswith(("gamedyn/", "gamedyn-"))]
    missing = sorted(SHIPPED - set(names))
    for what, these in (("not code", wrong), ("missing", missing), (ROOT, leaks)):
        if these:
            raise Failed(f"{what}: {', '.join(these)}")


def edit(source: Path, target: Path) -> None:
    """Copy a recipe's file and change it as a user would: other loss, other words."""
    text = source.read_text()
    edited = text.replace('"non_saturating"', '"hinge"').replace(
        '"""A deep', '"""My own deep', 1
    )
    if edited == text:
        raise Failed(f"{source} is not as expected")
    target.write_text(edited)


def steps(user: User, work: Path) -> dict[str, Callable[[], object]]:
    """List what to do, each step by its name."""

    def build() -> None:
        user.pip("wheel", "--no-deps", "--wheel-dir", work / "wheel", ROOT)

    def wheel() -> Path:
        return next((work / "wheel").glob("*.whl"))

    def installed(*parts: str) -> Path:
        return next(user.environment.glob("**/site-packages")).joinpath(*parts)

    def move_run() -> None:
        shutil.move(user.folder / "runs" / "dcgan", user.folder / "moved")
        user.gamedyn("sample", "moved", "--number", "5")
        user.gamedyn("evaluate", "moved")
        user.gamedyn("train", "dcgan", "--resume", "moved", "--steps", "24")

    def copy_recipe() -> None:
        source = installed("gamedyn", "experiments", "dcgan", "__init__.py")
        edit(source, user.folder / "my_gan.py")
        user.gamedyn("train", "my_gan.py", "--smoke", "--out", "mine")
        own = ("--recipe", "my_gan.py")
        user.gamedyn("sample", "mine", *own, "--number", "5")
        user.gamedyn("evaluate", "mine", *own)
        user.gamedyn("train", "my_gan.py", "--resume", "mine", "--steps", "24")
        try:
            user.gamedyn("sample", "mine")
        except Failed as error:
            if "--recipe" not in str(error):
                raise
        else:
            raise Failed("sampled by a recipe that nobody named")

    def move_recipe() -> None:
        (user.folder / "elsewhere").mkdir()
        shutil.move(user.folder / "my_gan.py", user.folder / "elsewhere" / "renamed.py")
        moved = "elsewhere/renamed.py"
        user.gamedyn("sample", "mine", "--recipe", moved, "--number", "5")
        user.gamedyn("evaluate", "mine", "--recipe", moved)
        user.gamedyn("train", moved, "--resume", "mine", "--steps", "26")

    def copy_package() -> None:
        source = installed("gamedyn", "experiments", "ddpm")
        shutil.copytree(source, user.folder / "my_ddpm")
        user.gamedyn("train", "my_ddpm", "--smoke", "--out", "points", "--data=ring8")
        user.gamedyn("sample", "points", "--recipe", "my_ddpm", "--number", "5")

    def own_experiments() -> None:
        """A folder of that name, without `__init__.py`, is the user's own."""
        (user.folder / "experiments").mkdir()
        (user.folder / "experiments" / "mine.py").write_text("")
        code = "import experiments.mine, gamedyn as gd; gd.recipes.load('dcgan')"
        user.run(user.bin / "python", "-c", code)

    def compare() -> None:
        rules = ("extragradient", "optimistic")
        user.gamedyn("compare", "bilinear", "--rules", *rules, "--out", "compared")

    def leave_no_trace() -> None:
        if stray := [path for path in installed().glob("*/**/results")]:
            raise Failed(f"written into the environment: {stray}")

    planned: dict[str, Callable[[], object]] = {
        "new environment": lambda: user.run(
            sys.executable, "-m", "venv", user.environment
        ),
        "build the wheel": build,
        "what it holds": lambda: check_contents(wheel()),
        "install it": lambda: user.pip(
            "install", "-c", ROOT / "constraints.txt", wheel()
        ),
        "import every module": lambda: user.run(
            user.bin / "python", "-W", "error::ImportWarning", "-c", IMPORT_ALL
        ),
        "list recipes": lambda: user.gamedyn("list", "recipes"),
    }
    for name in ("dcgan", "ddpm"):
        run = f"runs/{name}"
        planned |= {
            f"train {name}": lambda n=name, run=run: user.gamedyn(
                "train", n, "--smoke", "--out", run
            ),
            f"sample {name}": lambda run=run: user.gamedyn("sample", run),
            f"evaluate {name}": lambda run=run: user.gamedyn("evaluate", run),
        }
    return planned | {
        "a run that moved": move_run,
        "a recipe copied and edited": copy_recipe,
        "a recipe that moved": move_recipe,
        "a recipe's folder copied": copy_package,
        "an own folder experiments": own_experiments,
        "compare bilinear": compare,
        "nothing left behind": leave_no_trace,
    }


def main() -> int:
    """Do all steps; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="gamedyn-wheel-") as folder:
        work = Path(folder)
        for name, step in steps(new_user(work), work).items():
            begin = time.perf_counter()
            try:
                step()
            except (Failed, OSError, StopIteration) as error:
                print(f"{error!s}\n\nwheel test FAILED: {name}", file=sys.stderr)
                return 1
            print(f"{name:<28} {time.perf_counter() - begin:7.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
