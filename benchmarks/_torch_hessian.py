"""Torch's Hessian libraries in their own process: one answer for each line of JSON.

The first line is the path of an .npz file with the network's leaves in order (a matrix
and an offset per layer), its inputs, their targets (1 real, 0 generated) and a vector;
each later line is a task and its options. Libraries that are not installed are left
out.
"""

import importlib.metadata
import json
import sys
import time
import warnings

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn.functional import binary_cross_entropy_with_logits


class Network(torch.nn.Module):
    """A tanh network; its parameters are the leaves, in their order and layout."""

    def __init__(self, leaves):
        super().__init__()
        self.leaves = torch.nn.ParameterList(map(torch.nn.Parameter, leaves))

    def forward(self, x):
        *hidden, matrix, offset = self.leaves
        for inner, shift in zip(hidden[::2], hidden[1::2], strict=True):
            x = torch.tanh(torch.addmm(shift, x, inner))
        return torch.addmm(offset, x, matrix)


class Loss(torch.nn.Module):
    """Twice the mean over real and generated points: the sum of the two means."""

    reduction = "mean"

    def forward(self, outputs, targets):
        return 2 * binary_cross_entropy_with_logits(outputs, targets)


def eig(matrix, eigenvectors):
    """What PyHessian 0.1 expects of `torch.eig`, which torch has removed."""
    del eigenvectors
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def flattened(tensors):
    return torch.cat([tensor.detach().ravel() for tensor in tensors]).numpy()


def pyhessian_tasks(network, loss, inputs, targets, vector):
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    torch.eig = eig
    with warnings.catch_warnings():  # of the graph, which it keeps on purpose
        warnings.simplefilter("ignore")
        tool = hessian(network, loss, data=(inputs, targets), cuda=False)

    def hvp():
        return flattened(hessian_vector_product(tool.gradsH, tool.params, vector)), 1

    def density(num_steps):
        values = np.sort(tool.density(iter=num_steps, n_v=1)[0][0])
        return values[[0, -1]], num_steps

    return {"PyHessian hvp": hvp, "PyHessian density": density}


def curvlinops_tasks(network, loss, inputs, targets, vector):
    from curvlinops import HessianLinearOperator

    params = list(network.parameters())
    operator = HessianLinearOperator(network, loss, params, [(inputs, targets)])
    dtype = vector[0].numpy().dtype
    product = operator.to_scipy(dtype=dtype)
    start = np.random.default_rng(0).normal(size=operator.shape[0]).astype(dtype)

    def hvp():
        return flattened(operator @ vector), 1

    def ends(tolerance):
        calls = []

        def matvec(vector):
            calls.append(0)
            return product.matvec(vector)

        linear = LinearOperator(operator.shape, matvec=matvec, dtype=dtype)
        values = eigsh(
            linear,
            k=2,
            which="BE",
            tol=tolerance,
            v0=start,
            return_eigenvectors=False,
        )
        return np.sort(values), len(calls)

    return {"curvlinops hvp": hvp, "curvlinops + eigsh": ends}


LIBRARIES = {
    "pyhessian": pyhessian_tasks,
    "curvlinops-for-pytorch": curvlinops_tasks,
}


def main():
    torch.set_num_threads(1)
    with np.load(json.loads(sys.stdin.readline()), allow_pickle=False) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    inputs, targets, flat = (arrays.pop(n) for n in ("inputs", "targets", "vector"))
    torch.set_default_dtype(inputs.dtype)
    network, loss = Network(arrays.values()), Loss()
    sizes = [leaf.numel() for leaf in arrays.values()]
    vector = [
        part.reshape(leaf.shape)
        for part, leaf in zip(flat.split(sizes), arrays.values(), strict=True)
    ]
    tasks, versions = {}, {"torch": torch.__version__}
    for library, make in LIBRARIES.items():
        try:
            tasks |= make(network, loss, inputs, targets, vector)
        except ImportError as error:
            print(f"{library} is left out: {error}", file=sys.stderr)
        else:
            versions[library] = importlib.metadata.version(library)
    print(json.dumps({"versions": versions, "tasks": list(tasks)}), flush=True)
    for line in sys.stdin:
        task, options = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        values, products = tasks[task](**options)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        answer = {"values": values.tolist(), "products": products}
        print(json.dumps({**answer, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
