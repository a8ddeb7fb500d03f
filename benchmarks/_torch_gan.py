"""torch's GAN steps in their own process, with the interface of `_our_gan.py`.

The networks are built from gamedyn's parameters, by name, and start from them. As in
careful torch code, no graph is recorded for the fakes in the discriminator's step, and
no gradients of the discriminator's weights are computed in the generator's.
"""

import itertools
import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

STEP_SIZE, DECAYS = 2e-4, (0.5, 0.999)


class ToPicture(nn.Module):
    """Vectors to pictures, as a view in either memory format."""

    def __init__(self, shape, channels_last):
        super().__init__()
        self.shape, self.channels_last = shape, channels_last

    def forward(self, x):
        height, width, channels = self.shape
        if self.channels_last:
            return x.view(-1, *self.shape).permute(0, 3, 1, 2)
        return x.view(-1, channels, height, width)


class FromPicture(nn.Module):
    """Pictures to vectors, as a view."""

    def __init__(self, channels_last):
        super().__init__()
        self.channels_last = channels_last

    def forward(self, x):
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)


class Networks:
    """Builds networks from gamedyn's parameters, in one memory format."""

    def __init__(self, leaves, channels_last):
        self.leaves, self.channels_last = leaves, channels_last

    def parameters(self, player, layer):
        prefix = f"{player}/{layer}/"
        return {
            name.removeprefix(prefix): leaf
            for name, leaf in self.leaves.items()
            if name.startswith(prefix)
        }

    def filled(self, module, weight, bias):
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
            if bias is not None:
                module.bias.copy_(torch.from_numpy(bias))
        return module

    def dense(self, player, layer):
        leaves = self.parameters(player, layer)
        kernel, bias = leaves["kernel"], leaves.get("bias")
        module = nn.Linear(*kernel.shape, bias=bias is not None)
        return self.filled(module, kernel.T, bias)

    def dense_beside(self, player, shape, axis):
        """A dense layer whose inputs or outputs are pictures, flattened from NHWC."""
        module = self.dense(player, "dense")
        if not self.channels_last:
            height, width, channels = shape
            order = np.arange(height * width * channels)
            order = order.reshape(shape).transpose(2, 0, 1).ravel()
            with torch.no_grad():
                order = torch.from_numpy(order)
                module.weight.copy_(module.weight.index_select(axis, order))
        return module

    def conv(self, player, layer):
        leaves = self.parameters(player, layer)
        kernel, bias = leaves["kernel"], leaves.get("bias")
        options = {"stride": 2, "padding": 1, "bias": bias is not None}
        if player == 0:
            module = nn.ConvTranspose2d(*kernel.shape[2:], 4, **options)
            weight = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        else:
            module = nn.Conv2d(*kernel.shape[2:], 4, **options)
            weight = kernel.transpose(3, 2, 0, 1)
        return self.filled(module, weight, bias)

    def norm(self, player, layer):
        leaves = self.parameters(player, layer)
        # Without running statistics, like gamedyn's.
        module = nn.BatchNorm2d(len(leaves["scale"]), track_running_stats=False)
        return self.filled(module, leaves["scale"], leaves["offset"])

    def count(self, player, kind):
        numbers = itertools.count()
        known = (f"{player}/{kind}{i}/kernel" in self.leaves for i in numbers)
        return sum(1 for _ in itertools.takewhile(bool, known))

    def mlp(self, player):
        number, layers = self.count(player, "dense"), []
        for i in range(number):
            layers += [self.dense(player, f"dense{i}"), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def generator(self, pixels):
        number = self.count(0, "conv")
        base, features = pixels // 2**number, len(self.leaves["0/norm0/scale"])
        shape = base, base, features
        layers = [self.dense_beside(0, shape, 0), ToPicture(shape, self.channels_last)]
        for i in range(number):
            layers += [self.norm(0, f"norm{i}"), nn.ReLU(), self.conv(0, f"conv{i}")]
        return nn.Sequential(*layers, nn.Tanh())

    def discriminator(self, pixels):
        number, layers = self.count(1, "conv"), []
        for i in range(number):
            layers.append(self.conv(1, f"conv{i}"))
            if i:
                layers.append(self.norm(1, f"norm{i}"))
            layers.append(nn.LeakyReLU(0.2))
        base, features = pixels // 2**number, len(self.leaves[f"1/norm{i}/scale"])
        dense = self.dense_beside(1, (base, base, features), 1)
        return nn.Sequential(*layers, FromPicture(self.channels_last), dense)


class Candidate:
    """Two networks, their optimizers, and the training step."""

    def __init__(self, leaves, arrays, device, *, channels_last, fused, compiled):
        networks = Networks(leaves, channels_last)
        if arrays["real"].ndim == 4:
            self.pair = networks.mlp(0), networks.mlp(1)
            self.real = None
        else:
            pixels = arrays["real"].shape[3]
            self.pair = networks.generator(pixels), networks.discriminator(pixels)
            self.real = self.example(arrays["real"][0, 0], channels_last, device)
        form = torch.channels_last if channels_last else torch.contiguous_format
        self.channels_last, self.device = channels_last, device
        for net in self.pair:
            net.to(device, memory_format=form)
        self.optimizers = [
            torch.optim.Adam(net.parameters(), STEP_SIZE, DECAYS, fused=fused)
            for net in self.pair
        ]
        self.losses = torch.compile(self.eager) if compiled else self.eager
        self.batch, self.size = arrays["latent"].shape[-2:]
        self.centres = torch.from_numpy(arrays["centres"]).to(device)
        self.sigma = float(arrays["sigma"])

    @staticmethod
    def example(array, channels_last, device):
        x = torch.from_numpy(array)
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2)  # from NHWC, so it is channels-last already
            x = x if channels_last else x.contiguous()
        return x.to(device)

    def eager(self, player, real, latent):
        generator, discriminator = self.pair
        if player == 0:
            return softplus(-discriminator(generator(latent))).mean()
        with torch.no_grad():
            fake = generator(latent)
        on_real, on_fake = discriminator(real), discriminator(fake)
        return softplus(-on_real).mean() + softplus(on_fake).mean()

    def draw(self):
        latent = torch.randn(self.batch, self.size, device=self.device)
        if self.real is not None:
            return self.real, latent
        modes = torch.randint(len(self.centres), (self.batch,), device=self.device)
        noise = torch.randn(self.batch, 2, device=self.device)
        return self.centres[modes] + self.sigma * noise, latent

    def move(self, player, real, latent):
        self.pair[1].requires_grad_(player == 1)
        self.optimizers[player].zero_grad()
        self.losses(player, real, latent).backward()
        self.optimizers[player].step()

    def __call__(self, num_steps):
        for _ in range(num_steps):
            for player in (1, 0):
                self.move(player, *self.draw())
        if self.device != "cpu":
            torch.cuda.synchronize()

    def check(self, arrays):
        def losses():
            with torch.no_grad():
                return [float(self.eager(player, *first)) for player in (0, 1)]

        def batch(index, move):
            real, latent = arrays["real"][index, move], arrays["latent"][index, move]
            real = self.example(real, self.channels_last, self.device)
            return real, torch.from_numpy(latent).to(self.device)

        first = batch(0, 0)
        history = [losses()]
        for index in range(len(arrays["real"])):
            for move, player in enumerate((1, 0)):
                self.move(player, *batch(index, move))
            history.append(losses())
        return history


def forms(setting):
    """Return the options of each `Candidate` by name."""
    plain = {"channels_last": False, "fused": False, "compiled": False}
    fused = {**plain, "fused": True}
    if setting["case"] == "mlp":
        return {"torch": plain, "torch, fused Adam": fused}
    last = {**fused, "channels_last": True}
    named = {"torch, contiguous": fused, "torch, channels last": last}
    if setting["device"] == "gpu":
        named["torch.compile, channels last"] = {**last, "compiled": True}
    return named


def main():
    setting = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setting["cores"])
    torch.set_num_threads(len(setting["cores"]))
    device = "cuda" if setting["device"] == "gpu" else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as in jax
    with np.load(setting["file"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    leaves = {name: array for name, array in arrays.items() if "/" in name}
    named = forms(setting)
    made = {n: Candidate(leaves, arrays, device, **o) for n, o in named.items()}
    numbers = {
        sum(p.numel() for net in candidate.pair for p in net.parameters())
        for candidate in made.values()
    }
    (number,) = numbers
    about = {"torch": torch.__version__, "candidates": list(made), "parameters": number}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        task, number = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        result = None
        if task == "check":
            fresh = (Candidate(leaves, arrays, device, **o) for o in named.values())
            result = [candidate.check(arrays) for candidate in fresh]
        else:
            made[task](number)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
