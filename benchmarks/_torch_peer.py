"""A torch loop in its own process: one answer for each line of JSON.

The loop does the same as ExtraSGD of the Variational-Inequality-GAN code: gradients by
autograd, an extrapolation that stores the point, a step from the stored point.
"""

import json
import sys
import time

import numpy as np
import torch


def extragradient(matrix, x, y, step_size, num_steps):
    players = [v.clone().requires_grad_() for v in (x, y)]

    def gradients():
        x, y = players
        gx, gy = torch.autograd.grad(x @ matrix @ y, (x, y))
        return gx, -gy

    for _ in range(num_steps):
        ahead = gradients()
        with torch.no_grad():
            remembered = [p.clone() for p in players]
            for p, g in zip(players, ahead, strict=True):
                p.sub_(g, alpha=step_size)
        update = gradients()
        with torch.no_grad():
            for p, r, g in zip(players, remembered, update, strict=True):
                p.copy_(r).sub_(g, alpha=step_size)
    return [p.detach().numpy().tolist() for p in players]


def main():
    torch.set_num_threads(1)
    setting = json.loads(sys.stdin.readline())
    tensors = [
        torch.from_numpy(np.asarray(setting[name], setting["dtype"]))
        for name in ("matrix", "x", "y")
    ]
    print(json.dumps({"version": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = extragradient(*tensors, setting["step_size"], json.loads(line))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
