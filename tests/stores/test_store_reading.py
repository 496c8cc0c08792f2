"""Stores in memory and on disk keep one contract, whole in memory or read part by part."""

import pytest
import torch
from tiny_subject import OUT, TinySubject, Z

from actscope.checks.check_store import check_store
from actscope.core import artifact
from actscope.core.errors import BadInput, Corrupt
from actscope.core.site import Port
from actscope.core.store import Store, split_documents
from actscope.corpora.texts import texts
from actscope.stores import disk
from actscope.stores._parts import order, reader
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore

LISTED = ["a long " * 30, "b", "", "short one", "x" * 31, "y" * 32, "z" * 33, "caf\u00e9 \u4e2d"] * 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actscope.stores.capture.UNIT", 400)
        out = tmp_path_factory.mktemp("made") / "s"
        capture(TinySubject(), texts(LISTED), [OUT, Z], out=out)
        yield out, capture(TinySubject(), texts(LISTED), [OUT, Z], packed=True)


def test_the_contract_in_memory(made):
    _, packed = made
    assert isinstance(packed, Store)
    check_store(packed, TinySubject(), texts(LISTED))


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("group", [1, 100_000, 1 << 30])
def test_the_contract_on_disk(made, monkeypatch, fits, group):
    monkeypatch.setattr(DiskStore, "_fits", fits)
    monkeypatch.setattr(order, "CHUNK", 1000)
    monkeypatch.setattr(disk, "_OPEN", 3)
    monkeypatch.setattr(reader, "_AHEAD", 100)
    store = DiskStore(made[0], mixing=group)
    assert isinstance(artifact.open(made[0]), DiskStore) and len(store.parts) > 4
    check_store(store, TinySubject(), texts(LISTED), again=lambda: DiskStore(made[0], mixing=group))


def test_the_contract_sees_a_store_that_shuffles_wrongly(made):
    class Wrong(DiskStore):
        def _order(self, seed, skip):
            return super()._order(seed, 0)

    with pytest.raises(AssertionError, match="start=1"):
        check_store(Wrong(made[0]), TinySubject(), texts(LISTED))


def test_the_contract_sees_rows_that_belong_elsewhere(made):
    class Shifted(DiskStore):
        def _gather(self, name, index):
            return super()._gather(name, index if name == "where" else (index + 1) % len(self))

    with pytest.raises(AssertionError, match="run again it differs"):
        check_store(Shifted(made[0]), TinySubject(), texts(LISTED))


def test_whether_it_fits_in_memory_changes_no_order(made, monkeypatch):
    orders = []
    for fits in (True, False):
        monkeypatch.setattr(DiskStore, "_fits", fits)
        orders.append(torch.cat([batch.where for batch in DiskStore(made[0]).batches([OUT], 64, seed=1)]))
    assert torch.equal(*orders)


def test_a_shuffled_pass_mixes_documents(made):
    where = next(DiskStore(made[0]).batches([OUT], 64, seed=0)).where
    assert len(where[:, 0].unique()) > 15


def test_changing_a_batch_changes_no_store(made):
    store = DiskStore(made[0])
    for batch in (next(store.batches([OUT], 8)), store.rows(torch.arange(8), [OUT])):
        batch.acts[Port(OUT)].zero_()
        batch.where.zero_()
    again = store.rows(torch.arange(8), [OUT])
    assert again.acts[Port(OUT)].abs().sum() > 0 and again.where.sum() > 0


def test_a_document_that_is_empty_is_named_and_has_no_row(made):
    store = DiskStore(made[0])
    assert len(store.documents) == len(LISTED) and 2 not in store.text[1][:, 0].tolist()
    assert store.tokens(torch.tensor([[2, 0]]), 1, 1).tolist() == [[-1, -1, -1]]


def test_documents_split_apart_and_cover_all(made):
    store = DiskStore(made[0])
    parts = split_documents(store, 3)
    assert sorted(number for part in parts for number in part) == sorted(store.documents)
    given = [{int(n) for _, first in store.sequences(5, part) for n in first[:, 0]} for part in parts]
    assert not given[0] & given[1] and not given[1] & given[2] and not given[0] & given[2]


def test_a_port_that_is_not_there_is_named_with_what_is(made):
    with pytest.raises(BadInput, match=r"holds no layers.0.resid_pre; did you mean .*capture layers.0.resid_pre too"):
        DiskStore(made[0]).batches(["layers.0.resid_pre"], 4)


@pytest.fixture
def copied(made, tmp_path):
    import shutil

    shutil.copytree(made[0], tmp_path / "s")
    return tmp_path / "s"


def read_all(path):
    return [len(batch) for batch in DiskStore(path).batches([OUT, Z], 100)]


@pytest.mark.parametrize("seed", range(25))
def test_any_flipped_bit_of_a_shard_or_the_manifest_is_found(copied, seed):
    draw = torch.Generator().manual_seed(seed)
    path = sorted(path for path in copied.iterdir() if path.name != "about.json")[seed % 6]
    data = bytearray(path.read_bytes())
    at = int(torch.randint(len(data), (1,), generator=draw))
    data[at] ^= 1 << int(torch.randint(8, (1,), generator=draw))
    path.write_bytes(data)
    if path.name == "manifest.json":
        with pytest.raises((Corrupt, BadInput)):
            read_all(copied)
    else:
        with pytest.raises(Corrupt, match=path.name) as caught:
            read_all(copied)
        assert caught.value.exit_code == 6


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000])
def test_a_shard_cut_short_is_named(copied, length):
    path = sorted(copied.glob("unit-*"))[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Corrupt, match=path.name):
        read_all(copied)


def test_a_missing_shard_is_named(copied):
    path = sorted(copied.glob("unit-*"))[1]
    path.unlink()
    with pytest.raises(Corrupt, match=f"{path.name} is missing"):
        read_all(copied)
