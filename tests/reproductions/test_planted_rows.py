"""Rows whose directions are known are what they are said to be, also as a store."""

import torch

from actscope.reproductions._parts.planted import PORT, directions, planted, store_of


def test_every_row_is_the_sum_of_the_directions_that_are_present():
    truth = directions(32, 16, seed=1)
    made = planted(2000, truth, least=2, most=6, seed=2)
    count = made.present.sum(1)
    assert count.min() == 2 and count.max() == 6 and abs(float(count.float().mean()) - 4) < 0.15
    assert made.present.float().mean(0).std() < 0.02  # all directions equally often
    torch.testing.assert_close(truth.norm(dim=1), torch.ones(32))
    row = int(count.argmin())
    strengths = torch.linalg.lstsq(truth[made.present[row]].T, made.rows[row]).solution
    torch.testing.assert_close(strengths @ truth[made.present[row]], made.rows[row])
    assert ((strengths > 0.5 - 1e-4) & (strengths < 1.5 + 1e-4)).all()
    assert not torch.equal(made.rows, planted(2000, truth, least=2, most=6, seed=3).rows)


def test_as_a_store_the_rows_come_back_document_by_document():
    rows = planted(250, directions(8, 4, seed=1), least=1, most=2, seed=0).rows
    store = store_of({PORT: rows}, name="planted")
    assert len(store) == 250 and len(store.documents) == 3 and store.subjects == {"": "planted"}
    batch = next(store.batches([PORT], 250))
    assert torch.equal(batch.acts[PORT], rows)
    assert batch.where[[0, 99, 100, 249]].tolist() == [[0, 0], [0, 99], [1, 0], [2, 49]]
    assert store.content != store_of({PORT: rows + 1}, name="planted").content
