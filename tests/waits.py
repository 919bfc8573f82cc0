"""A device that is none, which counts how often somebody waits for it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda")

_READS = {Tensor.cpu, Tensor.tolist, Tensor.numpy, Tensor.__array__}
_WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2"}
_INDEXED = {"index", "index_put", "index_put_"}


class OnHost(Tensor):
    """Stays on the host, and what is computed of such tensors alone; every other tensor is on the device."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alone = all(isinstance(each, OnHost) for each in _tensors((args, kwargs or {})))
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        return result.as_subclass(cls) if alone and type(result) is Tensor else result


class CountedWaits:
    """Within it `cuda` is this machine's memory; `count` says how often a tensor there was read back."""

    def __init__(self) -> None:
        self.count = 0
        self._modes = (_Calls(self), _Kernels(self))

    def __enter__(self) -> "CountedWaits":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def read(self, args: Any) -> None:
        """Counts where one of the tensors is on the device."""
        self.count += any(not isinstance(each, OnHost) for each in _tensors(args))


class _Calls(TorchFunctionMode):
    """What is called by name: moves to the device and back."""

    def __init__(self, waits: CountedWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _READS:
            self._waits.read(args)
        if func is Tensor.pin_memory:
            return args[0]
        moved = kwargs.get("non_blocking", False)
        if DEVICE in [each for each in (*args, kwargs.get("device")) if isinstance(each, torch.device)]:
            moved = True
            args = tuple(torch.device("cpu") if each == DEVICE else each for each in args)
            kwargs = {**kwargs, **({"device": torch.device("cpu")} if "device" in kwargs else {})}
        result = func(*args, **kwargs)
        return result.as_subclass(Tensor) if moved and isinstance(result, OnHost) else result


class _Kernels(TorchDispatchMode):
    """What is called by whatever stands behind: scalars, and shapes that depend on numbers."""

    def __init__(self, waits: CountedWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in _INDEXED and any(each.dtype == torch.bool for each in _tensors(args[1]))
        if name in _WAITS or masks:
            self._waits.read(args)
        return func(*args, **(kwargs or {}))


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
