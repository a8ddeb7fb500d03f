"""CGDs' competitive gradient descent in its own process, as `_torch_peer.py`.

BCGD is used as its page says, the loss and then `step`, without optional statistics.
Its inner solver may take as many steps as a player has parameters, but one fewer when
it starts from its last solution, which is too few in two dimensions. If that solution
is cleared (in the optimizer's public state), it solves exactly.
"""

import json
import sys
import time
from importlib import metadata

import CGDs
import numpy as np
import torch


def competitive(matrix, x, y, step_size, num_steps, warm):
    x, y = (v.clone().requires_grad_() for v in (x, y))
    optimizer = CGDs.BCGD(
        max_params=[y],
        min_params=[x],
        lr_max=step_size,
        lr_min=step_size,
        collect_info=False,
    )
    for _ in range(num_steps):
        if not warm:
            optimizer.state.update(old_max=None, old_min=None)
        optimizer.step(loss=x @ matrix @ y)
    return [p.detach().numpy().tolist() for p in (x, y)]


def main():
    torch.set_num_threads(1)
    setting = json.loads(sys.stdin.readline())
    tensors = [
        torch.from_numpy(np.asarray(setting[name], setting["dtype"]))
        for name in ("matrix", "x", "y")
    ]
    version = f"CGDs {metadata.version('CGDs')}, torch {torch.__version__}"
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = competitive(*tensors, setting["step_size"], *json.loads(line))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
