"""A process that computes pairs, one for each line it reads: spawned by `main`.

    python -m PACKAGE.leaderboard.worker FOLDER CORE

reads lines of JSON (track, game, method) and answers each with the processor seconds
once the pair's file is there. It ends with its input, hence with whoever spawned it.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(folder: Path, core: int) -> None:
    """Compute the pairs that come in, on one core."""
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[core % len(usable)]})
    # What is printed by others must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    from gamedyn import runtime

    runtime.configure(x64=True)
    import jax

    from . import files, pairs

    settings = files.read_settings(folder)
    for number, line in enumerate(sys.stdin):
        pair = pairs.Pair(*json.loads(line))
        begin = time.process_time()
        files.write_result(folder, pairs.play(pair, settings))
        answers.write(json.dumps(round(time.process_time() - begin, 3)) + "\n")
        answers.flush()
        if number % 50 == 49:  # compiled programs would fill the memory
            jax.clear_caches()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
