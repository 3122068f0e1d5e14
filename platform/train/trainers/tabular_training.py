"""The training that all tabular trainers share: a perceptron by Ray Train's TorchTrainer over Ray Data.

One worker trains in the driver's own process (Ray Train's local mode, which saves the 10 s of starting a group of
workers); more workers are processes of their own, each with a disjoint shard, and average their gradients.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import ceil, isfinite
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
from torch.nn.parallel import DistributedDataParallel

from ..errors import UnsuitableDataset
from . import TabularParameters
from .columns import Task
from .objectives import Objective, Sums, Weights
from .onnx_network import check_network, write_network
from .tabular import TabularProblem, read_problem
from .tabular_network import TabularNetwork
from .task import Checkpoints, File, Report, TrainedModel, TrainingTask, say


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

    parameters: TabularParameters
    objective: Objective
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]
    rows: int
    threads: int
    report: Report
    checkpoints: Checkpoints


class DisjointShards(ray_train.DataConfig):
    """Gives each worker the block that was cut for it; Ray's own splitting drops rows to make shards equal."""

    def configure(self, datasets: Any, world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """Return each worker's iterators."""
        parts = datasets["train"].split(world_size)
        return [{"train": part.iterator()} for part in parts]


def train_tabular(task: TrainingTask, kind: Task) -> TrainedModel:
    """Train, write the network as safetensors and ONNX, and make sure that both answer alike."""
    parameters: TabularParameters = task.parameters
    problem = read_problem(
        task.table,
        target=parameters.target,
        held_out_share=parameters.validation_fraction,
        seed=parameters.seed,
        task=kind,
    )
    if int((~problem.held_out).sum()) < task.resources.num_workers:
        raise UnsuitableDataset(f"{len(problem.targets)} rows are too few for {task.resources.num_workers} workers.")
    _describe(problem)
    weights, metrics = _fit(task, problem)
    weights = problem.objective.finish(weights, f"layers.{len(parameters.hidden_sizes)}")
    signature = _signature(problem, parameters.target)
    return TrainedModel(signature, problem.encoder.typical_row(problem.sample), metrics, _write(task, problem, weights))


def _describe(problem: TabularProblem) -> None:
    labels = problem.objective.labels
    predicted = f"{len(labels)} classes" if labels else "one number to predict"
    say(
        f"{len(problem.targets)} rows, {len(problem.encoder.columns)} features, {predicted}, "
        f"{int(problem.held_out.sum())} rows held out"
    )
    for name, reason in problem.left_out.items():
        say(f"the column {name!r} is left out: {reason}")


def _fit(task: TrainingTask, problem: TabularProblem) -> tuple[Weights, dict[str, float]]:
    resources = task.resources
    mean, deviation = problem.scaling()
    config = LoopConfig(
        parameters=task.parameters,
        objective=problem.objective,
        mean=mean,
        deviation=deviation,
        rows=len(problem.targets),
        threads=max(1, int(resources.cpus_per_worker)),
        report=task.report,
        checkpoints=task.checkpoints,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    # It announces each pass over the rows; what goes wrong is raised.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    loop: Any = train_loop  # Ray's types know no loop that returns something
    trainer = TorchTrainer(
        loop,
        train_loop_config={"config": config},
        scaling_config=_scaling(task),
        run_config=ray_train.RunConfig(
            name=task.name,
            storage_path=str(task.folder / "ray"),
            failure_config=ray_train.FailureConfig(max_failures=task.max_restarts),
        ),
        datasets={"train": ray.data.from_blocks(problem.shards(resources.num_workers))},
        dataset_config=DisjointShards(),
    )
    # Typed as the older result, which has no return value.
    result: Any = trainer.fit()
    if isinstance(result.return_value, TrainingDiverged):
        raise result.return_value
    weights, metrics = result.return_value
    return weights, metrics


def _scaling(task: TrainingTask) -> Any:
    resources = task.resources
    use_gpu = resources.gpus_per_worker > 0
    if resources.num_workers == 1:
        return ray_train.ScalingConfig(num_workers=0, use_gpu=use_gpu)
    share = {"CPU": resources.cpus_per_worker} | ({"GPU": resources.gpus_per_worker} if use_gpu else {})
    return ray_train.ScalingConfig(num_workers=resources.num_workers, use_gpu=use_gpu, resources_per_worker=share)


def train_loop(loop_config: dict[str, LoopConfig]) -> tuple[Weights, dict[str, float]] | TrainingDiverged:
    """Train on this worker's shard; runs in every worker, and the first one's answer is kept."""
    try:
        return _train(loop_config["config"])
    except TrainingDiverged as error:
        # Raised, Ray Train would take it for a broken worker and try again.
        return error


def _train(config: LoopConfig) -> tuple[Weights, dict[str, float]]:
    context = ray_train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config.threads)
    parameters = config.parameters
    # Equal seeds give equal weights on all workers; the order of the rows differs by worker.
    torch.manual_seed(parameters.seed)
    model = prepare_model(
        TabularNetwork(config.mean, config.deviation, parameters.hidden_sizes, config.objective.width)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=parameters.learning_rate)
    device = next(model.parameters()).device
    shard = _shard(rank, device)
    done, metrics = _resume(config, model, optimizer, rank, workers)
    for epoch in range(done + 1, parameters.epochs + 1):
        loss = _train_epoch(config, model, optimizer, shard, _batches(config, shard, workers, rank, epoch))
        metrics = _metrics(config.objective, loss, *_evaluate(config, model, shard), workers, device)
        if not isfinite(metrics["loss"]):
            raise TrainingDiverged(f"The loss is {metrics['loss']} after epoch {epoch}; lower the learning_rate.")
        if rank == 0:
            say(
                f"epoch {epoch}/{parameters.epochs} " + " ".join(f"{key}={value:.4f}" for key, value in metrics.items())
            )
            config.report(epoch, metrics)
            config.checkpoints.offer(epoch, partial(_state, model, optimizer, epoch, metrics))
    return {name: value.cpu().numpy() for name, value in _network(model).state_dict().items()}, metrics


def _state(model: torch.nn.Module, optimizer: torch.optim.Optimizer, epoch: int, metrics: dict[str, float]) -> bytes:
    """Write down all that the following epochs depend on; their order of rows follows from the seed and the epoch."""
    buffer = BytesIO()
    state = {"network": _network(model).state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"epoch": epoch, "metrics": metrics}, buffer)
    return buffer.getvalue()


def _resume(
    config: LoopConfig, model: torch.nn.Module, optimizer: torch.optim.Optimizer, rank: int, workers: int
) -> tuple[int, dict[str, float]]:
    """Go on from the last checkpoint, if there is one; return the epochs that it holds and their metrics."""
    found = [config.checkpoints.last() if rank == 0 else None]
    if workers > 1:
        # One worker asks for all: two that ask at different moments could get different epochs.
        torch.distributed.broadcast_object_list(found)
    if found[0] is None:
        return 0, {}
    device = next(model.parameters()).device
    state = torch.load(BytesIO(found[0]), map_location=device, weights_only=True)
    _network(model).load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    if rank == 0:
        say(f"resumed after epoch {state['epoch']} from its checkpoint")
    return state["epoch"], state["metrics"]


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
    config: LoopConfig,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    shard: Shard,
    batches: Iterator[torch.Tensor],
) -> float:
    model.train()
    total, count = 0.0, 0
    for rows in batches:
        optimizer.zero_grad()
        loss = config.objective.loss(model(shard.features[rows]), shard.targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, count = total + float(loss.detach()) * len(rows), count + len(rows)
    return total / count


@torch.no_grad()
def _evaluate(config: LoopConfig, model: torch.nn.Module, shard: Shard) -> tuple[Sums, Sums]:
    """Judge the rows held out and the rows seen."""
    model.eval()
    network, objective = _network(model), config.objective
    return (
        objective.sums(network(shard.held_out_features), shard.held_out_targets),
        objective.sums(network(shard.features), shard.targets),
    )


def _network(model: torch.nn.Module) -> TabularNetwork:
    network: Any = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(TabularNetwork, network)


def _metrics(
    objective: Objective, loss: float, held_out: Sums, seen: Sums, workers: int, device: torch.device
) -> dict[str, float]:
    """Add the sums of all workers up and read them."""
    values = torch.tensor([loss, *held_out.values(), *seen.values()], dtype=torch.float64, device=device)
    if workers > 1:
        torch.distributed.all_reduce(values)
    total_loss, *sums = values.tolist()
    whole, whole_seen = sums[: len(held_out)], sums[len(held_out) :]
    return {"loss": total_loss / workers} | objective.metrics(
        dict(zip(held_out, whole, strict=True)), dict(zip(seen, whole_seen, strict=True))
    )


def _write(task: TrainingTask, problem: TabularProblem, weights: Weights) -> list[File]:
    parameters: TabularParameters = task.parameters
    safetensors, network, config = (task.folder / name for name in ("model.safetensors", "model.onnx", "config.json"))
    document = _config(problem, parameters)
    # All that a model server needs to answer with this file alone.
    described = json.dumps(document | {"signature": _signature(problem, parameters.target)})
    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    save_file(arrays, safetensors, metadata={"raymill": described})
    config.write_text(json.dumps(document, indent=2) + "\n")
    output = problem.objective.output
    write_network(weights, network, encoder=problem.encoder, output=output)
    feeds = problem.encoder.feeds(problem.sample)
    check_network(network, feeds, _answers(weights, parameters.hidden_sizes, problem), output=output)
    return [File("model", network), File("model", safetensors), File("config", config)]


@torch.no_grad()
def _answers(weights: Weights, hidden_sizes: list[int], problem: TabularProblem) -> npt.NDArray[np.float32]:
    """Answer the first rows with the network as the safetensors file describes it."""
    network = TabularNetwork(weights["mean"], weights["deviation"], hidden_sizes, problem.objective.width)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    scores = network(torch.from_numpy(problem.features[: problem.sample.num_rows]))
    answers: npt.NDArray[np.float32] = problem.objective.answers(scores).numpy()
    return answers


def _config(problem: TabularProblem, parameters: TabularParameters) -> dict[str, Any]:
    encoder = problem.encoder
    return {
        "architecture": "tabular-network",
        "output": problem.objective.output,
        "columns": encoder.columns,
        "labels": problem.objective.labels,
        "encoding": {
            "numbers": encoder.numbers,
            "dates": dict(zip(encoder.moments, encoder.origins.tolist(), strict=True)),
            "categories": encoder.categories,
            "nullable": encoder.nullable,
            "fill": dict(zip([*encoder.numbers, *encoder.moments], encoder.fill.tolist(), strict=True)),
        },
        "left_out": problem.left_out,
        "hidden_sizes": parameters.hidden_sizes,
        "hyperparameters": parameters.model_dump(),
    }


def _signature(problem: TabularProblem, target: str) -> dict[str, Any]:
    objective = problem.objective
    shape = [-1] if objective.labels is None else [-1, objective.width]
    return {
        "inputs": problem.encoder.inputs(),
        "outputs": [{"name": objective.output, "datatype": "FP32", "shape": shape}],
        "labels": objective.labels,
        "ignored": {target: "it is what the model predicts"} | problem.left_out,
    }
