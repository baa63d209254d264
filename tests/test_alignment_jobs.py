"""The samples of pairs that the curves align with."""

import numpy as np

from xsae.run.alignment_jobs import PAIRS, SHUFFLED, _samples


def test_samples_are_nested_true_pairs_then_all_with_a_share_shuffled():
    samples = list(_samples(2000))
    true = [sample for sample in samples if sample[1] == 0]
    assert [pairs for pairs, *_ in true] == [*(size for size in PAIRS if size < 2000), 2000]
    for (pairs, _, rows, partners), (_, _, more, _) in zip(true, true[1:] + true[-1:], strict=True):
        assert len(set(rows)) == pairs and set(rows) <= set(more)
        np.testing.assert_array_equal(rows, partners)
    for (pairs, share, rows, partners), expected in zip(samples[len(true) :], SHUFFLED, strict=True):
        assert (pairs, share) == (2000, expected) and set(rows) == set(partners) == set(range(2000))
        assert np.mean(rows != partners) == expected
