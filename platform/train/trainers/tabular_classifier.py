"""The trainer ``tabular-classifier``: a multilayer perceptron by Ray Train's TorchTrainer over Ray Data.

One worker trains in the driver's own process (Ray Train's local mode, which saves the 10 s of starting a group of
workers); more workers are processes of their own, each with a disjoint shard, and average their gradients.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data
import torch
import torch.distributed
from ray import train as ray_train
from ray.train.torch import TorchTrainer, prepare_model
from safetensors.numpy import save_file
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from . import TabularClassifierParameters
from .onnx_network import INPUT, OUTPUT, check_network, write_network
from .tabular import TabularProblem, UnsuitableTable, read_problem
from .tabular_network import TabularNetwork
from .task import File, Report, TrainedModel, TrainingTask, say

_CHECKED_ROWS = 1024

Weights = dict[str, npt.NDArray[np.float32]]


class TrainingDiverged(RuntimeError):
    """Raised when the loss is not a number any more."""


@dataclass(frozen=True)
class Shard:
    """The rows of one worker."""

    features: torch.Tensor
    targets: torch.Tensor
    held_out_features: torch.Tensor
    held_out_targets: torch.Tensor


@dataclass(frozen=True)
class LoopConfig:
    """What each worker is told."""

    parameters: TabularClassifierParameters
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]
    classes: int
    rows: int
    threads: int
    report: Report


class DisjointShards(ray_train.DataConfig):
    """Gives each worker the block that was cut for it; Ray's own splitting drops rows to make shards equal."""

    def configure(self, datasets: Any, world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """Return each worker's iterators."""
        parts = datasets["train"].split(world_size)
        return [{"train": part.iterator()} for part in parts]


def train(task: TrainingTask) -> TrainedModel:
    """Train, write the network as safetensors and ONNX, and make sure that both answer alike."""
    parameters: TabularClassifierParameters = task.parameters
    problem = read_problem(
        task.table, target=parameters.target, held_out_share=parameters.validation_fraction, seed=parameters.seed
    )
    if int((~problem.held_out).sum()) < task.resources.num_workers:
        raise UnsuitableTable(f"{len(problem.targets)} rows are too few for {task.resources.num_workers} workers.")
    say(
        f"{len(problem.targets)} rows, {len(problem.columns)} features, {len(problem.labels)} classes, "
        f"{int(problem.held_out.sum())} rows held out"
    )
    weights, metrics = _fit(task, problem)
    return TrainedModel(_signature(problem), metrics, _write(task, problem, weights))


def _fit(task: TrainingTask, problem: TabularProblem) -> tuple[Weights, dict[str, float]]:
    resources = task.resources
    mean, deviation = problem.scaling()
    config = LoopConfig(
        parameters=task.parameters,
        mean=mean,
        deviation=deviation,
        classes=len(problem.labels),
        rows=len(problem.targets),
        threads=max(1, int(resources.cpus_per_worker)),
        report=task.report,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    # It announces each pass over the rows; what goes wrong is raised.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    loop: Any = train_loop  # Ray's types know no loop that returns something
    trainer = TorchTrainer(
        loop,
        train_loop_config={"config": config},
        scaling_config=_scaling(task),
        run_config=ray_train.RunConfig(name=task.name, storage_path=str(task.folder / "ray")),
        datasets={"train": ray.data.from_blocks(problem.shards(resources.num_workers))},
        dataset_config=DisjointShards(),
    )
    # Typed as the older result, which has no return value.
    result: Any = trainer.fit()
    weights, metrics = result.return_value
    return weights, metrics


def _scaling(task: TrainingTask) -> Any:
    resources = task.resources
    use_gpu = resources.gpus_per_worker > 0
    if resources.num_workers == 1:
        return ray_train.ScalingConfig(num_workers=0, use_gpu=use_gpu)
    share = {"CPU": resources.cpus_per_worker} | ({"GPU": resources.gpus_per_worker} if use_gpu else {})
    return ray_train.ScalingConfig(num_workers=resources.num_workers, use_gpu=use_gpu, resources_per_worker=share)


def train_loop(loop_config: dict[str, LoopConfig]) -> tuple[Weights, dict[str, float]]:
    """Train on this worker's shard; runs in every worker, and the first one's answer is kept."""
    config, context = loop_config["config"], ray_train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config.threads)
    parameters = config.parameters
    # Equal seeds give equal weights on all workers; the order of the rows differs by worker.
    torch.manual_seed(parameters.seed)
    model = prepare_model(TabularNetwork(config.mean, config.deviation, parameters.hidden_sizes, config.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=parameters.learning_rate)
    device = next(model.parameters()).device
    shard = _shard(rank, device)
    metrics: dict[str, float] = {}
    for epoch in range(1, parameters.epochs + 1):
        loss = _train_epoch(model, optimizer, shard, _batches(config, shard, workers, rank, epoch))
        metrics = _average({"loss": loss} | _evaluate(model, shard), workers, device)
        if not isfinite(metrics["loss"]):
            raise TrainingDiverged(f"The loss is {metrics['loss']} after epoch {epoch}; lower the learning_rate.")
        if rank == 0:
            say(
                f"epoch {epoch}/{parameters.epochs} " + " ".join(f"{key}={value:.4f}" for key, value in metrics.items())
            )
            config.report(epoch, metrics)
    return {name: value.cpu().numpy() for name, value in _network(model).state_dict().items()}, metrics


def _shard(rank: int, device: torch.device) -> Shard:
    batches = ray_train.get_dataset_shard("train").iter_batches(batch_size=None, batch_format="pyarrow")
    table = pa.concat_tables(batches).combine_chunks()
    # Copied: what comes out of Ray's object store cannot be written to.
    targets = torch.tensor(table["target"].to_numpy(), device=device)
    held_out = torch.tensor(table["held_out"].to_numpy(), device=device)
    cells = torch.tensor(table["features"].combine_chunks().flatten().to_numpy(), device=device)
    features = cells.reshape(len(targets), -1)
    say(f"worker {rank}: {len(targets)} rows, {int(held_out.sum())} of them held out")
    return Shard(features[~held_out], targets[~held_out], features[held_out], targets[held_out])


def _batches(config: LoopConfig, shard: Shard, workers: int, rank: int, epoch: int) -> Iterator[torch.Tensor]:
    """Yield row numbers; every worker yields equally many batches, as averaging gradients demands."""
    generator = torch.Generator().manual_seed(config.parameters.seed + epoch * 1009 + rank)
    # The largest shard decides; a smaller one sees some of its rows twice.
    rows = ceil(config.rows / workers)
    order = torch.randperm(len(shard.targets), generator=generator)
    repeated = order.repeat(ceil(rows / len(order)))[:rows] if workers > 1 else order
    size = config.parameters.batch_size
    yield from (repeated[start : start + size] for start in range(0, len(repeated), size))


def _train_epoch(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, shard: Shard, batches: Iterator[torch.Tensor]
) -> float:
    model.train()
    total, count = 0.0, 0
    for rows in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(shard.features[rows]), shard.targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, count = total + float(loss.detach()) * len(rows), count + len(rows)
    return total / count


@torch.no_grad()
def _evaluate(model: torch.nn.Module, shard: Shard) -> dict[str, float]:
    """Count right answers; sums, so that they can be added up over the workers."""
    model.eval()
    network = _network(model)
    right = (network(shard.held_out_features).argmax(1) == shard.held_out_targets).sum()
    seen = (network(shard.features).argmax(1) == shard.targets).sum()
    return {
        "right": float(right),
        "asked": float(len(shard.held_out_targets)),
        "seen_right": float(seen),
        "seen": float(len(shard.targets)),
    }


def _network(model: torch.nn.Module) -> TabularNetwork:
    network: Any = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(TabularNetwork, network)


def _average(sums: dict[str, float], workers: int, device: torch.device) -> dict[str, float]:
    values = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
    if workers > 1:
        torch.distributed.all_reduce(values)
    total = dict(zip(sums, values.tolist(), strict=True))
    return {
        "loss": total["loss"] / workers,
        "accuracy": total["right"] / total["asked"],
        "train_accuracy": total["seen_right"] / total["seen"],
    }


def _write(task: TrainingTask, problem: TabularProblem, weights: Weights) -> list[File]:
    parameters: TabularClassifierParameters = task.parameters
    safetensors, network, config = (task.folder / name for name in ("model.safetensors", "model.onnx", "config.json"))
    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, safetensors)
    write_network(weights, network)
    rows = problem.features[:_CHECKED_ROWS]
    check_network(network, rows, _probabilities(weights, parameters.hidden_sizes, rows))
    _write_config(config, problem, parameters)
    return [File("model", network), File("weights", safetensors), File("config", config)]


@torch.no_grad()
def _probabilities(weights: Weights, hidden_sizes: list[int], rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Answer with the network as the safetensors file describes it."""
    classes = len(weights[f"layers.{len(hidden_sizes)}.bias"])
    network = TabularNetwork(weights["mean"], weights["deviation"], hidden_sizes, classes)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    probabilities: npt.NDArray[np.float32] = network(torch.from_numpy(rows)).softmax(1).numpy()
    return probabilities


def _write_config(path: Path, problem: TabularProblem, parameters: TabularClassifierParameters) -> None:
    document = {
        "architecture": "tabular-network",
        "columns": problem.columns,
        "labels": problem.labels,
        "hidden_sizes": parameters.hidden_sizes,
        "hyperparameters": parameters.model_dump(),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _signature(problem: TabularProblem) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": INPUT, "datatype": "FP32", "shape": [-1, len(problem.columns)], "columns": problem.columns}
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(problem.labels)]}],
        "labels": problem.labels,
    }
