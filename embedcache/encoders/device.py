"""Which device runs a network, and what it is called."""

from __future__ import annotations

from embedcache.errors import DeviceMissingError


def pick_device(asked: str) -> str:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    `auto` is the first GPU, else the CPU.

    Raises:
        DeviceMissingError: if there is no such device.
    """
    if asked == "cpu":
        return "cpu"
    found = _devices()
    wanted = {"auto": found[0], "cuda": "cuda:0"}.get(asked, asked)
    if wanted not in found:
        raise DeviceMissingError(asked, ("auto", *found))
    return wanted


def pick_devices(asked: str) -> tuple[str, ...]:
    """Turn one device, several with commas between them, or `cuda:all` into devices that are there.

    One may be named twice: two processes then share it.

    Raises:
        DeviceMissingError: if one of them is not there.
    """
    if asked == "cuda:all":
        found = _devices()
        gpus = tuple(device for device in found if device.startswith("cuda"))
        if not gpus:
            raise DeviceMissingError(asked, ("auto", *found))
        return gpus
    return tuple(pick_device(one.strip()) for one in asked.split(","))


def device_name(device: str) -> str:
    """What a report calls a device: the GPU's model name, `cpu` or `mps`."""
    if not device.startswith("cuda"):
        return device
    import torch

    return str(torch.cuda.get_device_name(device))


def _devices() -> tuple[str, ...]:
    """Devices of this machine, fastest first."""
    import torch

    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    metal = ("mps",) if torch.backends.mps.is_available() else ()
    return (*gpus, *metal, "cpu")
