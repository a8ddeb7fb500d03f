"""torch's and diffusers' U-Nets in their own process, as `_our_unet.py`.

Both are built from gamedyn's parameters, by name, and start from them.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

EPSILON, STEP_SIZE = 1e-6, 2e-4


class Leaves:
    """gamedyn's parameters under a prefix, and torch's modules made of them."""

    def __init__(self, leaves, prefix=""):
        self.leaves, self.prefix = leaves, prefix

    def __getitem__(self, name):
        return Leaves(self.leaves, f"{self.prefix}{name}/")

    def __contains__(self, name):
        start = f"{self.prefix}{name}/"
        return any(leaf.startswith(start) for leaf in self.leaves)

    def fill(self, module, weight, bias):
        arrays = self.leaves[self.prefix + weight], self.leaves[self.prefix + bias]
        with torch.no_grad():
            for parameter, array in zip(
                (module.weight, module.bias), arrays, strict=True
            ):
                array = array.transpose(self.order(array.ndim))
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        return module

    @staticmethod
    def order(axes):
        return {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[axes]

    def dense(self):
        inputs, outputs = self.leaves[self.prefix + "kernel"].shape
        return self.fill(nn.Linear(inputs, outputs), "kernel", "bias")

    def conv(self, stride=1):
        window, _, inputs, outputs = self.leaves[self.prefix + "kernel"].shape
        module = nn.Conv2d(inputs, outputs, window, stride, window // 2)
        return self.fill(module, "kernel", "bias")

    def norm(self, groups):
        channels = len(self.leaves[self.prefix + "scale"])
        return self.fill(nn.GroupNorm(groups, channels, EPSILON), "scale", "offset")


class Block(nn.Module):
    def __init__(self, leaves, groups):
        super().__init__()
        self.norm0, self.norm1 = (leaves[f"norm{i}"].norm(groups) for i in (0, 1))
        self.conv0, self.conv1 = (leaves[f"conv{i}"].conv() for i in (0, 1))
        self.time = leaves["time"].dense()
        self.skip = leaves["skip"].conv() if "skip" in leaves else nn.Identity()

    def forward(self, x, e):
        y = self.conv0(F.silu(self.norm0(x))) + self.time(e)[:, :, None, None]
        return self.conv1(F.silu(self.norm1(y))) + self.skip(x)


class Attention(nn.Module):
    def __init__(self, leaves, groups):
        super().__init__()
        self.norm = leaves["norm"].norm(groups)
        self.qkv, self.out = leaves["qkv"].dense(), leaves["out"].dense()

    def forward(self, x, e):
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(rows).chunk(3, dim=-1)
        y = self.out(F.scaled_dot_product_attention(q, k, v))
        return x + y.transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    def __init__(self, leaves, levels, blocks, groups):
        super().__init__()

        def stage(name, number):
            stages = nn.ModuleList()
            for i in range(number):
                part = [Block(leaves[name][f"block{i}"], groups)]
                if f"attention{i}" in leaves[name]:
                    part.append(Attention(leaves[name][f"attention{i}"], groups))
                stages.append(nn.ModuleList(part))
            return stages

        self.width = leaves.leaves["stem/bias"].size
        embedding = leaves["embedding"]
        self.dense0, self.dense1 = (embedding[f"dense{i}"].dense() for i in (0, 1))
        self.stem = leaves["stem"].conv()
        numbers = range(levels)
        self.down = nn.ModuleList(stage(f"down{i}", blocks) for i in numbers)
        self.up = nn.ModuleList(stage(f"up{i}", blocks + 1) for i in numbers)
        self.middle = stage("middle", 2)
        self.shrink = nn.ModuleList(
            leaves[f"down{i}"]["resize"].conv(2) for i in numbers[:-1]
        )
        self.enlarge = nn.ModuleList(
            leaves[f"up{i}"]["resize"].conv() for i in numbers[1:]
        )
        self.norm, self.conv = leaves["norm"].norm(groups), leaves["conv"].conv()

    def embed(self, t):
        half = self.width // 2
        powers = torch.arange(half, device=t.device) / (half - 1)
        angles = t[:, None] * torch.exp(-math.log(1e4) * powers)[None]
        y = torch.cat([angles.sin(), angles.cos()], dim=1)
        return F.silu(self.dense1(F.silu(self.dense0(y))))

    def forward(self, x, t):
        e = self.embed(t)

        def run(parts, x):
            for part in parts:
                x = part(x, e)
            return x

        x = self.stem(x)
        left = [x]
        for level, stage in enumerate(self.down):
            for parts in stage:
                x = run(parts, x)
                left.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
                left.append(x)
        for parts in self.middle:
            x = run(parts, x)
        for level in reversed(range(len(self.up))):
            for parts in self.up[level]:
                x = run(parts, torch.cat([x, left.pop()], dim=1))
            if level > 0:
                doubled = F.interpolate(x, scale_factor=2, mode="nearest")
                x = self.enlarge[level - 1](doubled)
        return self.conv(F.silu(self.norm(x)))


class FromDiffusers(nn.Module):
    """diffusers' network of the same configuration, from the same parameters."""

    def __init__(self, leaves, setting):
        from diffusers import UNet2DModel

        super().__init__()
        levels, blocks = setting["levels"], setting["blocks"]
        attends = [f"down{i}/attention0/norm/scale" in leaves for i in range(levels)]
        kinds = [("Attn" if each else "", i) for i, each in enumerate(attends)]
        widths = [
            len(leaves[f"down{i}/block0/norm1/scale"].ravel()) for i in range(levels)
        ]
        channels = leaves["stem/kernel"].shape[2]
        self.net = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            layers_per_block=blocks,
            block_out_channels=tuple(widths),
            down_block_types=tuple(f"{kind}DownBlock2D" for kind, _ in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind, _ in reversed(kinds)),
            norm_num_groups=setting["groups"],
            norm_eps=EPSILON,
            attention_head_dim=None,  # one head
            flip_sin_to_cos=False,
            freq_shift=1,
        )
        self.net.load_state_dict(dict(translated(leaves, levels)))

    def forward(self, x, t):
        return self.net(x, t, return_dict=False)[0]


NAMES = {
    "stem": "conv_in",
    "norm": "conv_norm_out",
    "conv": "conv_out",
    "embedding/dense0": "time_embedding.linear_1",
    "embedding/dense1": "time_embedding.linear_2",
}
PARTS = {
    "norm0": "norm1",
    "conv0": "conv1",
    "time": "time_emb_proj",
    "norm1": "norm2",
    "conv1": "conv2",
    "skip": "conv_shortcut",
    "norm": "group_norm",
    "out": "to_out.0",
}


def translated(leaves, levels):
    """Yield every parameter with diffusers' name, in torch's order of axes."""
    kinds = {"kernel": "weight", "scale": "weight", "bias": "bias", "offset": "bias"}
    for name, array in leaves.items():
        *path, kind = name.split("/")
        kind, array = kinds[kind], array.transpose(Leaves.order(array.ndim))
        array = torch.from_numpy(np.ascontiguousarray(array))
        if (known := NAMES.get("/".join(path))) is not None:
            yield f"{known}.{kind}", array
            continue
        stage, *rest = path
        level = int(stage[-1]) if stage != "middle" else 0
        if stage.startswith("up"):
            stage = f"up_blocks.{levels - 1 - level}"
            resize = f"{stage}.upsamplers.0.conv"
        elif stage == "middle":
            stage, resize = "mid_block", ""
        else:
            stage = f"down_blocks.{level}"
            resize = f"{stage}.downsamplers.0.conv"
        if rest == ["resize"]:
            yield f"{resize}.{kind}", array
            continue
        unit, part = rest
        kinds_of = {"block": "resnets", "attention": "attentions"}
        unit = f"{stage}.{kinds_of[unit[:-1]]}.{unit[-1]}"
        if part == "qkv":
            for letter, third in zip("qkv", array.chunk(3), strict=True):
                yield f"{unit}.to_{letter}.{kind}", third
        else:
            yield f"{unit}.{PARTS[part]}.{kind}", array


class Candidate:
    """A network, its optimizer, and data in the same memory format."""

    def __init__(self, leaves, arrays, setting, device, *, make, last, half, compiled):
        self.device, self.half = device, half
        form = torch.channels_last if last else torch.contiguous_format
        net = make(leaves, setting).to(device, memory_format=form)
        self.parameters = list(net.parameters())
        self.net = torch.compile(net) if compiled else net
        self.optimizer = torch.optim.Adam(self.parameters, STEP_SIZE, fused=True)

        def pictures(name):
            x = torch.from_numpy(arrays[name]).movedim(-1, -3)
            if x.ndim == 4:
                x = x.contiguous(memory_format=form)
            return x.to(device)

        self.x, self.start, self.eps = map(pictures, ("x", "start", "eps"))
        self.signal, self.noise, self.times = (
            torch.from_numpy(arrays[name]).to(device)
            for name in ("signal", "noise", "times")
        )
        self.table = arrays["table"].tolist()
        t = torch.full((len(self.start),), 500.0, device=device)
        self.middle = t

    def cast(self):
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.half)

    def loss(self, times, eps):
        shape = (-1, 1, 1, 1)
        a, s = self.signal[times].view(shape), self.noise[times].view(shape)
        with self.cast():
            estimate = self.net(a * self.x + s * eps, times.float())
        return F.mse_loss(estimate.float(), eps)

    def move(self, times, eps):
        self.optimizer.zero_grad()
        loss = self.loss(times, eps)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def synchronize(self):
        if self.device != "cpu":
            torch.cuda.synchronize()

    def __call__(self, num_steps):
        for _ in range(num_steps):
            size = (len(self.x),)
            times = torch.randint(len(self.signal), size, device=self.device)
            self.move(times, torch.randn_like(self.x))
        self.synchronize()

    def sample(self):
        with torch.inference_mode(), self.cast():
            x = self.start
            for time_, a, s, a_next, s_next in self.table:
                eps = self.net(x, torch.full_like(self.middle, time_)).float()
                x = a_next * (x - s * eps) / a + s_next * eps
        self.synchronize()
        return x.movedim(1, -1)

    def forward(self, number):
        with torch.inference_mode(), self.cast():
            for _ in range(number):
                self.net(self.start, self.middle)
        self.synchronize()

    def check(self):
        given = zip(self.times, self.eps, strict=True)
        return [float(self.move(times, eps)) for times, eps in given]


def ceiling(device, edge):
    """Flops per second of large matrix products, in float32 or, on a GPU, bfloat16."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    matrix = torch.full((edge, edge), 1 / edge, dtype=dtype, device=device)
    result, seconds = matrix @ matrix, []
    for _ in range(9):
        begun = time.perf_counter()
        for _ in range(10):
            result = matrix @ result
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 10 * 2 * edge**3 / float(np.median(seconds))


def forms(device):
    """Return the options of each `Candidate` by name."""

    def own(leaves, setting):
        options = (setting[name] for name in ("levels", "blocks", "groups"))
        return UNet(Leaves(leaves), *options)

    made = {"torch": own}
    if importlib.util.find_spec("diffusers"):
        made["diffusers"] = FromDiffusers
    named = {}
    for name, make in made.items():
        plain = {"make": make, "last": False, "half": False, "compiled": False}
        last = {**plain, "last": True}
        if device == "cpu":
            named |= {f"{name}, contiguous": plain, f"{name}, channels last": last}
        else:
            half = {**last, "half": True}
            named |= {
                f"{name}, bfloat16": half,
                f"{name}, bfloat16, compiled": {**half, "compiled": True},
            }
    return named


def main():
    setting = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setting["cores"])
    torch.set_num_threads(len(setting["cores"]))
    device = "cuda" if setting["device"] == "gpu" else "cpu"
    with np.load(setting["file"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    start = "params/"
    leaves = {
        k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)
    }

    def make(options):
        return Candidate(leaves, arrays, setting, device, **options)

    named = forms(device)
    made = {name: make(options) for name, options in named.items()}
    (number,) = {sum(p.numel() for p in each.parameters) for each in made.values()}
    about = {"torch": torch.__version__, "candidates": list(made), "parameters": number}
    if importlib.util.find_spec("diffusers"):
        about["diffusers"] = importlib.metadata.version("diffusers")
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        task, name, number = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        result = None
        if task == "check":
            result = {name: make(options).check() for name, options in named.items()}
        elif task == "ceiling":
            result = ceiling(device, number)
        elif task == "samples":
            result = made[name].sample().tolist()
        elif task == "sample":
            made[name].sample()
        elif task == "forward":
            made[name].forward(number)
        else:
            made[name](number)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
