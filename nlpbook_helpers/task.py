"""What is learned? One LightningModule for every classifier, documents and pairs alike."""

import copy
import inspect
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR
from torchmetrics.classification import MulticlassStatScores
from transformers import get_scheduler

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import ClassificationTrainArguments, describe_arguments
from nlpbook_helpers.checkpoints import METADATA_KEY, METRICS, is_sound
from nlpbook_helpers.examples import choose_examples, find_candidates
from nlpbook_helpers.features import ClassificationDataset, check_direction, count_positions, select_model_inputs
from nlpbook_helpers.gpu import CudaGraphs
from nlpbook_helpers.runtime import find_versions
from nlpbook_helpers.tokenizing import check_tokenizer

LEARNING_RATE_DECAY = 0.9  # per epoch, as in the book
STEPS_BETWEEN_LOOKS = 10  # at the loss, for which a GPU has to be waited for


class ClassificationTask(LightningModule):
    """Fine-tunes a Hugging Face sequence classifier.

    Args:
        model: Any `…ForSequenceClassification`, or PEFT's of one (LoRA): checkpoints hold its adapters merged.
        args: Learning rate, length and names; the names are written into every checkpoint.

    Raises:
        ValueError: `args.max_seq_length` is above the encoder's limit, or padding cannot be hidden from the encoder.
    """

    def __init__(self, model: Any, args: ClassificationTrainArguments) -> None:
        super().__init__()
        self._merge = getattr(model, "merge_and_unload", None)
        if self._merge:  # the adapters are in the model itself; PEFT's wrapper around it drops token types in silence
            model = model.get_base_model()
        # encoders answer through a `classifier`; decoders, encoder-decoders and XLNet call their last layer otherwise,
        # or give it no bias, from which a checkpoint's labels are counted; DeBERTa 1 hides padding by a float32 number,
        # which is too large for the 16 bits that it is multiplied in
        has_bias = any(name.startswith("classifier.") and name.endswith("bias") for name in model.state_dict())
        hides_padding = "attention_mask" in inspect.signature(model.forward).parameters
        if not (has_bias and hides_padding) or model.config.model_type == "deberta":
            expected = "an encoder that takes an attention_mask and answers at its first token, such as BERT or RoBERTa"
            raise ValueError(f"model: expected {expected}, got {type(model).__name__}: choose one of those")
        check_direction("model", model)
        if args.max_seq_length > (limit := count_positions(model)):
            expected = f"expected at most {limit}, the limit of {args.pretrained_model_name}"
            raise ValueError(f"max_seq_length: {expected}, got {args.max_seq_length}: lower it")
        if odd := [name for name, weights in model.state_dict().items() if not is_sound({}, {name: weights})]:
            found = f"got nan or inf in {odd[0]}: copy the encoder once more, or take another"
            raise ValueError(f"model: expected weights that are numbers, {found}")
        # from_pretrained returns evaluation mode, and Lightning leaves a model in the mode it finds: no dropout; and
        # it returns the precision of the file, but weights of 16 bits would lose small steps
        self.model = model.float().train()
        self.args = args
        self._weights: torch.Tensor | None = None
        self._graphs: CudaGraphs | None = None
        # counted right and wrong, by class; over all processes, and not part of the weights
        self._counts = MulticlassStatScores(max(2, model.config.num_labels), average=None, validate_args=False)
        self._per_class: list[list[float]] = []
        self._candidates: tuple[Any, ...] = ()  # of the examples that a page shows

    def on_train_start(self) -> None:
        """Refuse at once what would only be noticed after an epoch.

        Raises:
            ValueError: Tokenizer and model do not belong together, the model's outputs are not the corpus's labels, or
                what chooses the checkpoint is missing.
        """
        if getattr(self.model, "has_learned", False) and not self.trainer.global_step:
            self.print("going on from the weights that this model has learned before; load it again to begin anew")
        self.model.has_learned = True
        dataset = getattr(self.trainer.train_dataloader, "dataset", None)
        self._weights = self._weigh_classes(getattr(dataset, "labels", None))
        self._graphs = CudaGraphs(self.model) if CudaGraphs.is_possible(self.model, self.trainer) else None
        if isinstance(dataset, ClassificationDataset):
            check_tokenizer(self.model, dataset.tokenizer)
            outputs, labels = self.model.config.num_labels, dataset.corpus.num_labels
            if outputs != labels:
                expected = f"expected a model with {labels} outputs, one per label of the corpus"
                raise ValueError(f"{expected}, got {outputs}: load it with num_labels=corpus.num_labels")
        validation = getattr(self.trainer.val_dataloaders, "dataset", None)
        if isinstance(validation, ClassificationDataset) and self.device.type != "xla":  # which would compile for them
            self._candidates = validation, *find_candidates(validation)  # now, while their file is there
        if "val_" in self.args.monitor and not self.trainer.enable_validation:
            expected = f"expected val_dataloaders, since {self.args.monitor!r} chooses the checkpoint"
            raise ValueError(f"{expected}, got none: pass them to trainer.fit, or set monitor='min train_loss'")

    def _weigh_classes(self, labels: np.ndarray | None) -> torch.Tensor | None:
        """Return what the loss of each class counts: float32, (labels,); None where all count alike."""
        weights, outputs = self.args.class_weights, self.model.config.num_labels
        if weights == "balanced":
            if labels is None:
                raise ValueError("class_weights: 'balanced' needs a ClassificationDataset to count: give a number each")
            # as scikit-learn does, but a class without an example is no division by zero
            weights = len(labels) / np.maximum(np.bincount(labels, minlength=outputs), 1) / outputs
        if weights is not None and len(weights) != outputs:
            raise ValueError(f"class_weights: expected {outputs} numbers, one per label, got {len(weights)}")
        return None if weights is None else torch.tensor(weights, dtype=torch.float32, device=self.device)

    def on_train_end(self) -> None:
        """Give a GPU's memory back."""
        self._graphs = None

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; its learning rate is multiplied by 0.9 after each epoch, unless `scheduler` says otherwise."""
        # fused: one pass over all weights; identical update, measured in tests/benchmarks. It cannot clip gradients.
        fused = self.device.type in ("cpu", "cuda") and not self.trainer.gradient_clip_val
        rate, decay = self.args.learning_rate, self.args.weight_decay
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay, fused=fused)
        if self.args.scheduler == "exponential" and not self.args.warmup_ratio:
            return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, LEARNING_RATE_DECAY)}
        scheduler = self._make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _make_scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """Return a schedule that moves at each of the training's steps."""
        warmup = round(self.args.warmup_ratio * steps)
        if self.args.scheduler != "exponential":
            return get_scheduler(self.args.scheduler, optimizer, warmup, steps)
        epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        return LambdaLR(
            optimizer, lambda step: min(1.0, step / max(1, warmup)) * LEARNING_RATE_DECAY ** (step // epoch)
        )

    def training_step(self, inputs: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the batch's mean cross entropy: float32, ().

        Raises:
            ValueError: The loss is not a number.
        """
        loss = self._share_step(inputs, "train")
        if batch_idx % STEPS_BETWEEN_LOOKS == 0 and self.device.type != "xla":
            self._check_number("train_loss", loss.item())
        return loss

    def validation_step(self, inputs: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the batch's mean cross entropy: float32, ()."""
        return self._share_step(inputs, "val")

    def test_step(self, inputs: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the batch's mean cross entropy: float32, ()."""
        return self._share_step(inputs, "test")

    def _share_step(self, inputs: dict[str, torch.Tensor], stage: str) -> torch.Tensor:
        texts, is_training = dict(select_model_inputs(self.model, inputs)), stage == "train"
        labels = texts.pop("labels")
        with tpu.autocast(self.device):
            logits = self._graphs(texts) if is_training and self._graphs else self.model(**texts).logits
        weights, smoothing = (self._weights, self.args.label_smoothing) if is_training else (None, 0.0)
        loss = cross_entropy(logits.float(), labels, weights, label_smoothing=smoothing)
        guesses = logits.argmax(dim=-1)
        if stage == "val":
            self._counts.update(guesses, labels)
        accuracy = (guesses == labels).float().mean()
        # several processes: the mean over all of them, but on a TPU no waiting for each other at each step
        is_shared = self.trainer.world_size > 1 and not (is_training and self.device.type == "xla")
        self.log_dict(
            {f"{stage}_loss": loss.detach(), f"{stage}_acc": accuracy},
            prog_bar=True, on_step=is_training, on_epoch=True, sync_dist=is_shared,
            batch_size=float(len(labels)),  # type: ignore[arg-type]  # Lightning halves it between two processes
        )  # fmt: skip
        if not is_training:  # a training step ends with the optimizer's
            tpu.end_step(self.device)
        elif is_shared and self.trainer.is_last_batch:
            # the mean over processes of their batches' mean losses becomes the mean over all examples
            size = torch.tensor(float(len(labels)), device=self.device)
            loss = loss * (size / self.trainer.strategy.reduce(size.clone(), reduce_op="mean"))
        return loss

    def on_validation_epoch_end(self) -> None:
        """Say in one line how the epoch went.

        Raises:
            ValueError: The loss is not a number.
        """
        metrics = self.trainer.callback_metrics
        if "val_loss" in metrics and not self.trainer.sanity_checking:
            loss, accuracy = metrics["val_loss"], metrics["val_acc"]
            self._check_number("val_loss", loss.item())
            counts = self._counts.compute().double()
            right, guessed, examples = counts[:, 0], counts[:, 0] + counts[:, 1], counts[:, 4]
            # with a class that is neither there nor guessed as 0, as scikit-learn and `evaluate` count
            f1 = 2 * right / (guessed + examples).clamp_min(1)
            columns = right / guessed.clamp_min(1), right / examples.clamp_min(1), f1, examples
            self._per_class = torch.stack(columns, dim=1).tolist()
            self.log("val_macro_f1", f1.mean().float(), prog_bar=True)
            figures = f"val_loss {loss:.4f}, val_acc {accuracy:.4f}, val_macro_f1 {f1.mean():.4f}"
            self.print(f"epoch {self.current_epoch}: {figures}")
        self._counts.reset()

    def on_train_epoch_end(self) -> None:
        """Look at the loss of all steps; Lightning calls this before it writes the epoch's checkpoint.

        Raises:
            ValueError: The loss is not a number.
        """
        self._check_number("train_loss", self.trainer.callback_metrics["train_loss"].item())

    def _check_number(self, name: str, got: float) -> None:
        """End a training that has come apart, before it writes a checkpoint that answers nothing."""
        if not math.isfinite(got):
            raise ValueError(
                f"{name}: expected numbers, got {got} in epoch {self.current_epoch}: train again with a "
                f"learning_rate below {self.args.learning_rate:g} and resume=False; no checkpoint was written from it"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the weights without the notebook that made them, in tensors and primitives only.

        Raises:
            ValueError: A weight is not a number, as after a last step that came apart.
        """
        if self.device.type != "xla" and not is_sound({}, checkpoint["state_dict"]):
            self._check_number("weights", math.nan)
        if self._merge and "optimizer_states" not in checkpoint:  # for use; a state to go on from keeps adapters apart
            merged = copy.deepcopy(self._merge.__self__).merge_and_unload()
            checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in merged.state_dict().items()}
        arguments = describe_arguments(self.args)
        config = self.model.config.to_diff_dict() | {"model_type": self.model.config.model_type}
        config.pop(METADATA_KEY, None)  # of an earlier training, if the encoder was exported after one
        metrics, dataset = self.trainer.callback_metrics, getattr(self.trainer.train_dataloader, "dataset", None)
        metadata: dict[str, Any] = {
            "pretrained_model_name": arguments["pretrained_model_name"],
            "task": arguments["downstream_task_name"],
            "corpus": arguments["downstream_corpus_name"],
            "max_seq_length": arguments["max_seq_length"],
            "arguments": arguments,
            "versions": find_versions(),
            **{name: float(metrics[name]) for name in METRICS if name in metrics},
            "val_per_class": self._per_class,
            "examples": choose_examples(self.model, *self._candidates) if self._candidates else [],
        }
        if isinstance(dataset, ClassificationDataset):
            corpus = dataset.corpus
            metadata["labels"] = [str(label) for label in corpus.get_labels()]
            metadata["data"] = dataset.digest
            metadata["train_examples"] = len(dataset)  # those of validation are counted in val_per_class
            metadata["label_names"] = list(getattr(corpus, "label_names", metadata["labels"]))
            metadata["text_columns"] = list(getattr(corpus, "text_columns", ()))
            config = {name: value for name, value in config.items() if name not in ("id2label", "label2id")}
            if type(dataset.tokenizer).__module__.startswith("transformers."):
                metadata["tokenizer_files"] = _pack_tokenizer(dataset.tokenizer)
            else:  # its files would be of no use without its code, and a checkpoint carries none
                metadata["tokenizer_is_code"] = True
        checkpoint[METADATA_KEY] = metadata | {"config": json.dumps(config)}


def _pack_tokenizer(tokenizer: Any) -> dict[str, torch.Tensor]:
    """Return the tokenizer's files: name → uint8, (bytes,)."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {
            path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for path in Path(folder).iterdir()
            if path.is_file() and path.stat().st_size
        }
