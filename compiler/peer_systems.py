"""The systems that run a plan, an ONNX file or what `iree_build` made of one: stratac and its peers. See `peer_child.System`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..runtime.session import load
from .peer_child import Arrays


class Stratac:
    """`how`: how what is streamed is read (`io` of `load`)."""

    def __init__(self, threads: int, how: str = "auto") -> None:
        self.threads, self.io = threads, how

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        self.session = load(path, threads=self.threads, io=self.io)

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        return self.session.run(None, inputs)

    def facts(self) -> dict[str, Any]:
        memory, info = self.session.memory(), self.session.info()
        workspaces = memory.threads * memory.workspace_per_thread
        return {
            "threads": self.session.threads,
            "predicted_seconds": self.session.predicted_seconds,
            "io": info.io,
            "planned_bytes": memory.weights + memory.mapped + memory.scratch + workspaces + memory.ring,
            "session_bytes": memory.session,
            "outputs": [port.name for port in self.session.get_outputs()],
        }

    def profile(self) -> list[tuple[str, float, float]]:
        return [(row.label, row.seconds, row.predicted_seconds) for row in self.session.profile()]


class OnnxRuntime:
    """onnxruntime on the CPU with its defaults. `how`: `mapped` keeps weights as they are in the model's files."""

    def __init__(self, threads: int, how: str = "") -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        self.module, self.threads, self.mapped = onnxruntime, threads, how == "mapped"

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        options = self.module.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        for name, size in dims.items():
            options.add_free_dimension_override_by_name(name, size)
        skipped = ["ConstantFolding"] if self.mapped else []
        if self.mapped:
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_cpu_mem_arena = False
        self.session = self.module.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=skipped
        )

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.session.run(None, dict(inputs))
        return outputs

    def facts(self) -> dict[str, Any]:
        return {"threads": self.threads, "outputs": [port.name for port in self.session.get_outputs()]}

    def profile(self) -> list[tuple[str, float, float]]:
        raise NotImplementedError("onnxruntime's calls are not timed one by one")


class OpenVino:
    """OpenVINO's CPU plugin, one stream for least latency, computing in f32."""

    settings: Mapping[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}

    def __init__(self, threads: int, how: str = "") -> None:
        import openvino

        self.module, self.threads = openvino, threads

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        core = self.module.Core()
        model = core.read_model(path)
        if inputs:
            model.reshape({name: list(array.shape) for name, array in inputs.items()})
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads, **self.settings}
        self.compiled = core.compile_model(model, "CPU", settings)
        self.request = self.compiled.create_infer_request()

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        found = self.request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return [found[port] for port in self.compiled.outputs]

    def facts(self) -> dict[str, Any]:
        precision = self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        outputs = [port.get_any_name() for port in self.compiled.outputs]
        return {"threads": self.threads, "precision": precision, "outputs": outputs}

    def profile(self) -> list[tuple[str, float, float]]:
        raise NotImplementedError("OpenVINO's calls are not timed one by one")


class OpenVinoDefault(OpenVino):
    """OpenVINO in the precision that it chooses itself for this CPU: bf16 where the CPU has instructions for it."""

    settings: Mapping[str, Any] = {}


class Iree:
    """A module that `iree_build` made, on as many workers as threads."""

    #: bytes of stack a worker has: kernels that keep their scratch there were seen to need more than the default
    WORKER_STACK = 8 << 20

    def __init__(self, threads: int, how: str = "") -> None:
        import iree.runtime

        self.module, self.threads = iree.runtime, threads
        iree.runtime.flags.parse_flags(
            f"--task_topology_group_count={threads}", f"--task_worker_stack_size={self.WORKER_STACK}"
        )

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        config = self.module.Config("local-task")
        found = self.module.VmModule.mmap(config.vm_instance, path)
        context = self.module.SystemContext(vm_modules=(found,), config=config)
        entry = next(name for name in found.function_names if not name.startswith("__") and "$" not in name)
        self.device, self.call = config.device, context.modules[found.name][entry]

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        found = self.call(*inputs.values())
        return [part.to_host() for part in (found if isinstance(found, tuple | list) else (found,))]

    def facts(self) -> dict[str, Any]:
        return {"threads": self.threads}

    def profile(self) -> list[tuple[str, float, float]]:
        raise NotImplementedError("IREE's calls are not timed one by one")
