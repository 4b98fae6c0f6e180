"""How is it all done at once? From arguments to an evaluated checkpoint, on one device or many."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import make_corpus
from nlpbook_helpers.dataset import ClassificationDataset, data_collator
from nlpbook_helpers.download import download_downstream_dataset
from nlpbook_helpers.evaluation import evaluate
from nlpbook_helpers.inference import Classifier
from nlpbook_helpers.restoring import load_tokenizer
from nlpbook_helpers.runtime import set_logger, set_seed
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer


def train(args: ClassificationTrainArguments) -> Path | None:
    """Do what notebooks 01 and 03 do: fetch, tokenize, fine-tune, and evaluate the best checkpoint.

    Args:
        args: All that the training depends on; `validation_size` or a `val` file is needed unless `monitor` is of
            training. The `test` file is scored once, at the end, if there is one.

    Returns:
        The best checkpoint; None in `test_mode`.
    """
    set_logger(args)
    set_seed(args)
    download_downstream_dataset(args)
    corpus, tokenizer = make_corpus(args), load_tokenizer(args.pretrained_model_name, args.trust_remote_code)
    modes = ("train", "val") if " val_" in args.monitor else ("train",)
    data = {mode: ClassificationDataset(args, corpus, tokenizer, mode) for mode in modes}
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=corpus.num_labels, ignore_mismatched_sizes=True
    )
    trainer = get_trainer(args)
    lengths, step = data["train"].lengths, args.batch_size * trainer.world_size
    loaders = {
        mode: DataLoader(
            dataset, args.batch_size, collate_fn=data_collator, num_workers=args.cpu_workers,
            sampler=LengthGroupedSampler(step, lengths=lengths) if mode == "train" else None,
        )
        for mode, dataset in data.items()
    }  # fmt: skip
    trainer.fit(ClassificationTask(model, args), loaders["train"], loaders.get("val"))
    if args.test_mode or not trainer.is_global_zero:
        return None
    best = Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    print(f"best checkpoint: {best}")
    if corpus.has_file(data.pop("train").folder, "test"):
        data["test"] = ClassificationDataset(args, corpus, tokenizer, "test")
    classifier = Classifier.from_checkpoint(best, trust_remote_code=args.trust_remote_code, backend="torch")
    for mode, dataset in data.items():
        print(f"{mode}: {evaluate(classifier.model, dataset)}")
    return best


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Read fields of `ClassificationTrainArguments` from a JSON object.

    Raises:
        ValueError: There is no such file, it is not a JSON object, or a field is unknown.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file of arguments ({error}): correct it, or the path") from None
    if not isinstance(fields, dict):
        raise ValueError(f'{path}: expected a JSON object, as {{"epochs": 3}}, got {type(fields).__name__}')
    known = list(ClassificationTrainArguments.__dataclass_fields__)
    for name in fields:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"{path}: expected names of arguments, got {name!r}: "
                + (f"did you mean {near[0]!r}?" if near else f"they are {', '.join(known)}")
            )
    return fields
