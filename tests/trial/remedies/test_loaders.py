"""Remedies of DataLoaders: which arguments change, which stay, and what becomes of the order of samples."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import TRAINING, Try

LOOK = """
def look(name, loader):
    said[name] = [loader.num_workers, loader.persistent_workers, loader.prefetch_factor, loader.pin_memory]
"""


def test_workers_are_set_whatever_the_program_passes(tried: Try) -> None:
    ran = tried(
        LOOK
        + """
class Own(DataLoader):
    def __init__(self, dataset, num_workers=0):
        super().__init__(dataset, 4, False, num_workers=num_workers)
look("left", DataLoader(data()))
look("positional", DataLoader(data(), 8, True, None, None, 1))
look("given", DataLoader(data(), num_workers=3, prefetch_factor=5))
own = Own(data())
look("subclass", own)
import inspect
said["subclass is one"] = isinstance(own, DataLoader) and list(inspect.signature(DataLoader.__init__).parameters)[:3]
said["samples"] = sorted(int(y) for _, ys in own for y in ys)
""",
        "loader-workers=2",
    )
    assert ran.said["left"] == [2, True, 2, False]
    assert ran.said["positional"] == [2, True, 2, False]
    assert ran.said["given"] == [2, True, 5, False]
    assert ran.said["subclass"] == [2, True, 2, False]
    assert ran.said["subclass is one"] == ["self", "dataset", "batch_size"]
    assert ran.said["samples"] == sorted(i % 4 for i in range(48))
    assert ran.effects == ["loader-workers"]


def test_iterable_loaders_keep_their_workers(tried: Try) -> None:
    """Each worker would yield every sample."""
    ran = tried(
        LOOK
        + """
class Stream(IterableDataset):
    def __iter__(self):
        yield from range(5)
look("stream", DataLoader(Stream()))
""",
        "loader-workers=2",
    )
    assert ran.said["stream"][0] == 0
    assert ran.effects == []


def test_workers_load_the_first_epoch_in_the_same_order(tried: Try) -> None:
    """Workers that stay draw no new seed in the second one, so its shuffle is another."""
    plain, workers = tried(TRAINING).losses, tried(TRAINING, "loader-workers=2").losses
    assert workers[:6] == plain[:6]
    assert workers[6:] != plain[6:]


def test_workers_draw_other_random_numbers(tried: Try) -> None:
    noisy = """
class Noisy(Dataset):
    def __len__(self): return 16
    def __getitem__(self, i): return torch.randn(())
said["drawn"] = [float(x) for batch in DataLoader(Noisy(), batch_size=4) for x in batch]
"""
    plain, workers = tried(noisy), tried(noisy, "loader-workers=2")
    assert len(plain.said["drawn"]) == len(workers.said["drawn"])
    assert plain.said["drawn"] != workers.said["drawn"]


WITH_WORKERS = TRAINING.replace("shuffle=True", "shuffle=True, num_workers=2")


@pytest.mark.parametrize("remedy", ["persistent-workers", "prefetch-factor=4"])
def test_an_option_of_workers_needs_workers(tried: Try, remedy: str) -> None:
    assert tried(TRAINING, remedy).effects == []
    assert tried(WITH_WORKERS, remedy).effects == [remedy.partition("=")[0]]


def test_options_of_workers_change_nothing_else(tried: Try) -> None:
    ran = tried(
        LOOK
        + """
look("left", DataLoader(data(), num_workers=2))
look("given", DataLoader(data(), num_workers=2, prefetch_factor=3, persistent_workers=True))
look("none", DataLoader(data()))
""",
        "persistent-workers",
        "prefetch-factor=4",
    )
    assert ran.said["left"] == [2, True, 4, False]
    assert ran.said["given"] == [2, True, 3, False]
    assert ran.said["none"] == [0, False, None, False]


def test_batches_loaded_ahead_are_the_same(tried: Try) -> None:
    assert tried(WITH_WORKERS, "prefetch-factor=4").losses == tried(WITH_WORKERS).losses


def test_a_sampler_on_the_global_generator_draws_earlier(tried: Try) -> None:
    drawing = """
class Drawing(torch.utils.data.Sampler):
    def __len__(self): return 32
    def __iter__(self):
        for _ in range(32): yield int(torch.randint(48, ()))
loader = DataLoader(data(), batch_size=2, sampler=Drawing(), num_workers=1)
train(Model(), loader)
"""
    plain, ahead = tried(drawing).losses, tried(drawing, "prefetch-factor=8").losses
    assert ahead != plain
    assert len(ahead) == len(plain)


def test_batches_are_pinned_unless_they_are_already(tried: Try) -> None:
    ran = tried(
        LOOK
        + """
look("left", DataLoader(data()))
look("given", DataLoader(data(), pin_memory=False))
""",
        "pin-memory",
    )
    assert ran.said["left"][3] is True
    assert ran.said["given"][3] is True
    assert ran.effects == ["pin-memory"]


def test_pinning_changes_no_number(tried: Try) -> None:
    without_gpu = "warnings.simplefilter('ignore')\n"  # torch warns that it has nothing to pin for
    assert tried(without_gpu + TRAINING, "pin-memory").losses == tried(TRAINING).losses


def test_larger_batches_from_every_sampler_of_torch(tried: Try) -> None:
    ran = tried(
        """
def sizes(loader): return [len(ys) for _, ys in loader]
said["size"] = sizes(DataLoader(data(), batch_size=8))
said["sampler"] = sizes(DataLoader(data(), batch_sampler=BatchSampler(RandomSampler(data()), 8, False)))
built = DataLoader(data(), batch_size=8)
said["built from another"] = sizes(DataLoader(built.dataset, batch_sampler=built.batch_sampler))
said["last one dropped"] = sizes(DataLoader(data(), batch_size=20, drop_last=True))
""",
        "batch-size=2",
    )
    assert ran.said["size"] == ran.said["sampler"] == ran.said["built from another"] == [16, 16, 16]
    assert ran.said["last one dropped"] == [40]
    assert ran.effects == []  # nothing was trained


@pytest.mark.parametrize(("part", "effects"), [(8, []), (16, ["batch-size"])])
def test_larger_batches_count_where_the_model_is_given_them_whole(tried: Try, part: int, effects: list[str]) -> None:
    """A program that trains on parts of a fixed size has twice as many steps, none of which has more samples."""
    ran = tried(
        f"""
model = torch.nn.Linear(3, 1)
for _ in DataLoader(data(), batch_size=8):
    for rows in torch.zeros(16, 3).split({part}):
        model(rows).sum().backward()
""",
        "batch-size=2",
    )
    assert ran.effects == effects


def test_loaders_without_batches_keep_their_size(tried: Try) -> None:
    ran = tried("said['samples'] = len(list(DataLoader(data(), batch_size=None)))", "batch-size=4")
    assert ran.said["samples"] == 48
    assert ran.effects == []


def test_too_few_samples_for_larger_batches_keep_theirs(tried: Try) -> None:
    """A step would not have twice as many samples: 3 batches would become 2, and one stay one."""
    ran = tried(
        """
def sizes(size, **options): return [len(ys) for _, ys in DataLoader(data(), batch_size=size, **options)]
said["one"], said["three"], said["dropped"] = sizes(48), sizes(16), sizes(32, drop_last=True)
""",
        "batch-size=2",
    )
    assert (ran.said["one"], ran.said["three"], ran.said["dropped"]) == ([48], [16, 16, 16], [32])
    assert ran.effects == []


def test_larger_batches_of_an_evaluation_are_no_effect(tried: Try) -> None:
    ran = tried(
        "with torch.no_grad():\n    said['sizes'] = [len(ys) for _, ys in DataLoader(data(), batch_size=8)]",
        "batch-size=2",
    )
    assert ran.said["sizes"] == [16, 16, 16]
    assert ran.effects == []


def test_a_stream_without_an_end_has_larger_batches(tried: Try) -> None:
    ran = tried(
        """
class Stream(IterableDataset):
    def __iter__(self):
        yield from range(64)
said["sizes"] = [len(batch) for batch in DataLoader(Stream(), batch_size=8)]
""",
        "batch-size=2",
    )
    assert ran.said["sizes"] == [16, 16, 16, 16]


def test_larger_batches_change_training(tried: Try) -> None:
    larger = tried(TRAINING, "batch-size=2")
    assert len(larger.losses) == len(tried(TRAINING).losses) // 2
    assert larger.effects == ["batch-size"]
