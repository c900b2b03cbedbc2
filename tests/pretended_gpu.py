"""A GPU that is none: tensors that say they lie on one, and keep its rules.

They are computed with on the processor, in real numbers. A tensor there meets none of the
processor's but for single numbers, copies and indices, and has no numpy array; generators draw for
one device only. Nothing can be recorded there, so that steps are taken one by one. The rules hold
in the thread that asked for it: let everything run on one.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from dip_pipeline.restoration.networks import recording

GPU = torch.device("cuda:0")
_BESIDE = {"copy_", "__getitem__", "__setitem__", "index_put_"}  # take what lies elsewhere


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU."""

    @property
    def device(self) -> torch.device:
        return GPU

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __deepcopy__(self, memo):
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        return nn.Parameter(copy) if isinstance(self, nn.Parameter) else copy


class _GpuGenerator(torch.Generator):
    @property
    def device(self) -> torch.device:
        return GPU


class _Factories(TorchFunctionMode):
    """Sees what is asked for on the GPU, such as torch.zeros(3, device="cuda")."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Have torch find one GPU, that is none."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched, _Factories():
        for name, answer in {
            "is_available": True,
            "device_count": 1,
            "get_device_name": "none",
            "is_bf16_supported": False,
            "empty_cache": None,
            "device": nullcontext(),
        }.items():
            patched.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
        # Where torch is built for a GPU its optimisers would ask this one, that is none.
        patched.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
        for module in [one for name, one in sys.modules.items() if name.startswith("dip_pipeline")]:
            if getattr(module, "Generator", None) is torch.Generator:
                patched.setattr(module, "Generator", _generator)
        patched.setattr(nn.Module, "to", _move)
        patched.setattr(torch, "vmap", _mapped(torch.vmap))
        patched.setattr(recording.Recorded, "_record", _refuse)
        yield


def _run(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    with torch._C.DisableTorchFunction():
        if name == "to":
            return _moved(func, args, kwargs)
        leaves = [*_leaves(args), *_leaves(kwargs.values())]
        there = any(isinstance(one, OnGpu) for one in leaves)
        if there and name in ("numpy", "__array__"):
            raise TypeError("a tensor of the GPU has no numpy array")
        if name == "cpu":
            return _plain(func(*args))
        if there and name not in _BESIDE and any(map(_is_array_here, leaves)):
            raise RuntimeError(f"{name}: tensors of the GPU and of the processor meet")
        if kwargs.get("device") is not None:
            there = _is_gpu(kwargs["device"])
            kwargs = {**kwargs, "device": "cpu"}
        for generator in (one for one in leaves if isinstance(one, torch.Generator)):
            if isinstance(generator, _GpuGenerator) != there:
                raise RuntimeError(f"{name}: a generator of another device")
        result = func(*args, **kwargs)
        return _all_placed(result) if there else result


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """What arguments hold: torch's own walk through them took most of the time."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _leaves(value)
        elif isinstance(value, dict):
            yield from _leaves(value.values())
        else:
            yield value


def _moved(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Tensor:
    wanted = [*args[1:], *kwargs.values()]
    there = isinstance(args[0], OnGpu)
    for one in wanted:
        if isinstance(one, str | torch.device):
            there = _is_gpu(one)
        elif isinstance(one, Tensor):
            there = isinstance(one, OnGpu)
    args = tree_map(_here, args)
    result = _plain(func(*args, **{name: _here(value) for name, value in kwargs.items()}))
    if there != isinstance(args[0], OnGpu) and result.data_ptr() == args[0].data_ptr():
        result = result.clone()  # each device has its own memory
    return _placed(result) if there else result


def _is_array_here(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, OnGpu) and value.dim() > 0


def _is_gpu(device: str | torch.device) -> bool:
    return torch.device(device).type == "cuda"


def _here(value: Any) -> Any:
    return "cpu" if isinstance(value, str | torch.device) else value


def _placed(value: Any) -> Any:
    here = isinstance(value, Tensor) and not isinstance(value, OnGpu)
    return value.as_subclass(OnGpu) if here else value


def _all_placed(result: Any) -> Any:
    """Place whatever an operation gives; most give a tensor, or nothing that holds one."""
    if isinstance(result, Tensor):
        return _placed(result)
    plain = result is None or isinstance(result, bool | int | float | torch.Size)
    return result if plain else tree_map(_placed, result)


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnGpu) else value


def _generator(device: str | torch.device = "cpu") -> torch.Generator:
    return _GpuGenerator() if _is_gpu(device) else torch.Generator()


def _move(module: nn.Module, device: str | torch.device, **_: object) -> nn.Module:
    for part in module.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None and isinstance(weight, OnGpu) != _is_gpu(device):
                part._parameters[name] = nn.Parameter(weight.detach().to(device))
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
    return module


def _mapped(vmap: Callable[..., Any]) -> Callable[..., Any]:
    """Map over plain tensors: inside, torch hides of which sort they are."""

    def wrapped(func: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            there = any(isinstance(one, OnGpu) for one in _leaves(args))
            result = vmap(func)(*tree_map(_plain, args))
            return tree_map(_placed, result) if there else result

        return run

    return wrapped


def _refuse(_: object) -> None:
    raise RuntimeError("nothing can be recorded here")
