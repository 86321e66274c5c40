import pytest
import torch

from audiocraft.quantization.codebook import nearest
from audiocraft.quantization.kmeans import fit_residual_codebooks, k_means


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def error(rows, codebooks):
    for entries in codebooks:
        rows = rows - entries[nearest(rows, entries)]
    return float(rows.square().mean())


def test_kmeans_finds_separated_clusters():
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    rows = (middles[:, None] + 0.1 * torch.randn(4, 50, 2, generator=generator())).flatten(0, 1)
    centres = k_means(rows, num=8, iterations=20, rng=generator(1))
    assert (torch.cdist(middles, centres).min(dim=1).values < 0.3).all()


def test_joint_refinement_is_better_than_sequential_fitting():
    rows = torch.randn(2000, 8, generator=generator())
    options = {"num_codebooks": 3, "bins": 16, "iterations": 5}
    alone = fit_residual_codebooks(rows, **options, rounds=0, rng=generator(1))
    together = fit_residual_codebooks(rows, **options, rounds=10, rng=generator(1))
    assert error(rows, together) < error(rows, alone)


def test_every_codebook_lowers_the_error():
    rows = torch.randn(500, 4, generator=generator())
    books = fit_residual_codebooks(
        rows, num_codebooks=3, bins=8, iterations=5, rounds=2, rng=generator(1)
    )
    errors = [error(rows, books[:n]) for n in range(4)]
    assert errors == sorted(errors, reverse=True)


def test_too_few_rows_raise():
    with pytest.raises(ValueError, match="7 rows for codebooks of 8"):
        fit_residual_codebooks(
            torch.randn(7, 2), num_codebooks=1, bins=8, iterations=1, rounds=0, rng=generator()
        )
