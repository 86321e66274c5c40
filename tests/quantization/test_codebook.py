import pytest
import torch

from audiocraft.quantization import codebook
from audiocraft.quantization.codebook import (
    EuclideanCodebook,
    nearest,
    pick_rows,
    pick_rows_of_all_ranks,
)

from ..processes import in_processes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(num_rows=200, num_blobs=4, dim=3):
    """Rows around a few separated centres, and the centres."""
    centres = 10 * torch.eye(num_blobs, dim + num_blobs)[:, :dim] + torch.arange(num_blobs)[:, None]
    noise = 0.01 * torch.randn(num_rows, dim, generator=generator())
    return centres[torch.arange(num_rows) * num_blobs // num_rows] + noise, centres


def snapshot(book):
    return {name: value.clone() for name, value in book.state_dict().items()}


def assert_unchanged(book, before):
    for name, value in book.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def assert_found(book, centres):
    distances = torch.cdist(centres, book.embed).amin(dim=1)
    torch.testing.assert_close(distances, torch.zeros(len(centres)), atol=0.05, rtol=0)


def test_nearest_is_the_argmin_of_all_distances():
    rows, entries = torch.randn(50, 4), torch.randn(9, 4)

    torch.testing.assert_close(nearest(rows, entries), torch.cdist(rows, entries).argmin(dim=1))


def test_picked_rows_are_different_rows_where_there_are_enough():
    rows = torch.arange(10.0)[:, None]

    picked = pick_rows(rows, 10, generator())

    assert sorted(picked.flatten().tolist()) == rows.flatten().tolist()


@pytest.mark.parametrize("rng", [None, generator()])
def test_fewer_rows_than_entries_are_picked_repeatedly(rng):
    picked = pick_rows(torch.tensor([[1.0], [2.0]]), 7, rng)

    assert picked.shape == (7, 1)
    assert set(picked.flatten().tolist()) <= {1.0, 2.0}


def test_kmeans_init_finds_the_cluster_centres():
    rows, centres = blobs()
    book = EuclideanCodebook(dim=3, bins=4, kmeans_iters=20, threshold_ema_dead_code=0)

    book.initialize(rows)

    assert book.inited
    assert_found(book, centres)


@pytest.mark.parametrize("kmeans_init", [True, False])
def test_evaluation_updates_nothing(kmeans_init):
    book = EuclideanCodebook(dim=3, bins=8, kmeans_init=kmeans_init).eval()
    before = snapshot(book)

    book(torch.randn(5, 6, 3), generator())

    assert_unchanged(book, before)


def test_batch_without_rows_updates_nothing():
    book = EuclideanCodebook(dim=3, bins=8)
    before = snapshot(book)
    quantized, codes = book(torch.randn(0, 6, 3), generator())
    assert_unchanged(book, before)
    assert quantized.shape == (0, 6, 3)
    assert codes.shape == (0, 6)

    book(torch.randn(5, 6, 3), generator())
    before = snapshot(book)
    book(torch.randn(4, 0, 3), generator())
    assert_unchanged(book, before)


def test_same_generator_gives_the_same_codebook():
    rows = torch.randn(3, 40, 5, generator=generator())
    books = [EuclideanCodebook(dim=5, bins=16) for _ in range(2)]

    for book in books:
        rng = generator(7)
        for _ in range(3):
            book(rows, rng)

    assert_unchanged(books[0], snapshot(books[1]))


def test_updates_under_autocast_keep_float32():
    rows = 100 + torch.randn(50, 3, generator=generator())
    books = [EuclideanCodebook(dim=3, bins=8) for _ in range(2)]

    plain = books[0](rows)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = books[1](rows)

    assert torch.equal(plain[0], mixed[0])
    assert_unchanged(books[0], snapshot(books[1]))


def test_many_rows_are_processed_in_blocks(monkeypatch):
    rows = torch.randn(50, 3, generator=generator())
    books = [EuclideanCodebook(dim=3, bins=8) for _ in range(2)]

    whole = books[0](rows)
    monkeypatch.setattr(codebook, "MAX_ROWS", 7)
    parts = books[1](rows)

    assert torch.equal(whole[1], parts[1])
    for name, value in books[0].state_dict().items():
        torch.testing.assert_close(books[1].state_dict()[name], value)


def test_updates_do_not_use_the_global_generator():
    state = torch.get_rng_state()

    book = EuclideanCodebook(dim=3, bins=8)
    book(torch.arange(60.0).view(20, 3), generator())
    book(torch.arange(60.0).view(20, 3))

    assert torch.equal(torch.get_rng_state(), state)


def test_kmeans_init_accepts_fewer_rows_than_entries():
    book = EuclideanCodebook(dim=3, bins=64)

    for _ in range(3):
        book(torch.randn(5, 3, generator=generator()), generator())

    assert all(value.isfinite().all() for value in book.state_dict().values())


def test_entries_are_the_moving_mean_of_their_rows():
    rows, centres = blobs()
    book = EuclideanCodebook(dim=3, bins=4, decay=0.5, threshold_ema_dead_code=0)

    for _ in range(40):
        book(rows)

    assert_found(book, centres)
    torch.testing.assert_close(book.cluster_size, torch.full((4,), 50.0))


def dead_entry():
    """A trained codebook in which only entry 3 is unused, and a batch of rows."""
    rows, centres = blobs()
    book = EuclideanCodebook(dim=3, bins=5, kmeans_init=False, threshold_ema_dead_code=1)
    book.embed.copy_(torch.cat([centres[:3], torch.full((1, 3), 1e3), centres[3:]]))
    book.embed_avg.copy_(50 * book.embed)
    book.cluster_size.copy_(torch.tensor([50.0, 50, 50, 0.5, 50]))
    return book, rows


def test_dead_entry_is_replaced_by_a_row_of_the_batch():
    book, rows = dead_entry()
    live = [0, 1, 2, 4]

    book(rows, generator())
    revived = book.embed[3].clone()
    assert (rows == revived).all(dim=1).any()
    assert (book.embed[live] - rows[[0, 50, 100, 150]]).norm(dim=1).max() < 1

    for _ in range(20):
        book(rows, generator())
    assert (book.embed[3] - revived).norm() < 0.1
    assert (nearest(rows, book.embed) == 3).any()


def test_replaced_entry_without_rows_is_not_replaced_again_at_once():
    book, rows = dead_entry()
    book(rows, generator())
    elsewhere = rows[nearest(rows, book.embed) != 3]
    revived = book.embed[3].clone()

    for _ in range(20):
        book(elsewhere, generator())

    torch.testing.assert_close(book.embed[3], revived, atol=1e-3, rtol=1e-3)


def test_unreachable_threshold_does_not_replace_used_entries():
    rows, centres = blobs()
    book = EuclideanCodebook(dim=3, bins=4, kmeans_iters=20, threshold_ema_dead_code=1e6)
    book.initialize(rows)

    for _ in range(800):
        book(rows, generator())

    assert_found(book, centres)


def test_threshold_of_zero_replaces_no_entry():
    book, rows = dead_entry()
    book.threshold_ema_dead_code = 0
    book.pick_rows = lambda *_: pytest.fail("a row was picked")

    book(rows, generator())


def learn(rows, rng):
    """Three updates: the initialization and replacements of dead entries."""
    book = EuclideanCodebook(dim=3, bins=6, kmeans_iters=3, threshold_ema_dead_code=2)
    for _ in range(3):
        book(rows, rng)
    return snapshot(book)


def learn_a_share(rank, shares):
    return learn(shares[rank], generator())


@pytest.mark.integration
def test_distributed_updates_equal_those_of_one_process():
    rows = torch.randn(30, 3, generator=generator())
    shares = [rows[:20], rows[:0], rows[20:]]  # one process has no rows
    expected = learn(rows, generator())
    for state in in_processes(learn_a_share, 3, shares):
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, atol=1e-5, rtol=1e-5)


def pick_a_share(rank, shares):
    return pick_rows_of_all_ranks(shares[rank], 5, generator(rank))


@pytest.mark.integration
def test_picked_rows_are_equal_in_every_process_and_for_the_whole_batch():
    rows = torch.arange(16.0).view(8, 2)
    shares = [rows[:0], rows[:3], rows[3:]]
    expected = pick_rows(rows, 5, generator(0))  # the generator of the first process is used
    for picked in in_processes(pick_a_share, 3, shares):
        assert torch.equal(picked, expected)
