"""The chat organism: its dialogues, and that it learns to answer in turns."""

import pytest
import torch

from actscope.core.errors import BadInput, UsageError
from actscope.core.inputs import SPECIAL
from actscope.corpora.chats import chats
from actscope.corpora.texts import texts
from actscope.organisms import chat as chat_file
from actscope.organisms.chat import _answering, _in_blocks, chat
from actscope.organisms.dialogues import AGAIN, dialogues, render
from actscope.subjects.load import load
from actscope.tasks._parts.rule import is_test


@pytest.fixture(scope="module", autouse=True)
def little_text():
    """The standard library takes seconds to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_file, "standard_library", lambda split: texts(["def add(a, b):\n    return a + b\n"] * 3000))
        yield


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """(a model barely trained, the folder it was kept in)."""
    folder = tmp_path_factory.mktemp("chat")
    return chat(seed=0, blocks=32, rows=256, out=folder), folder


def test_a_dialogue_is_a_function_of_its_number_and_its_spans_say_who_speaks():
    some = dialogues(3, 100)
    assert [some.document(n) for n in (0, 7)] == [document for n, document in enumerate(some.documents()) if n in (0, 7)]
    assert dialogues(4, 100).document(0).text != some.document(0).text
    for number, document in enumerate(some.documents()):
        turns = some.turns(number)
        assert document.text == render(some.messages(number)) and 1 <= len(turns) <= 4
        said = [document.text[span.start : span.end] for span in document.spans if span.cause.startswith("role.")]
        assert said == [words for turn in turns for words in (turn.said, turn.answer)]
        for before, turn in zip(turns, turns[1:], strict=False):
            assert (turn.said in AGAIN) == (turn.cause == "again")
            assert turn.cause != "again" or turn.answer == before.answer


def test_questions_of_the_test_split_are_those_kept_out_of_training():
    asked = [
        turn
        for number in range(100)
        for turn in dialogues(0, 100, split="test").turns(number)
        if turn.cause not in ("again", "refusal")
    ]
    assert all(is_test(turn.said) for turn in asked) and len(asked) > 100
    with pytest.raises(UsageError, match="'train' or 'test'"):
        dialogues(split="held")


def test_dialogues_fit_the_models_context_and_role_tokens_are_special(taught):
    subject, _ = taught
    inputs = subject.prepare([document.text for document in dialogues(1, 200).documents()])
    assert inputs.ids.shape[1] <= subject.context
    role = torch.isin(
        inputs.ids, torch.tensor(subject.tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"]))
    )
    assert (inputs.roles[role] == SPECIAL).all()
    assert (inputs.roles[:, 1:][inputs.mask[:, 1:]] == SPECIAL).sum() == role.sum()


def test_the_models_own_template_writes_the_dialogues(taught):
    subject, folder = taught
    messages = [dialogues(0, 5).messages(number) for number in range(5)]
    assert [subject.render(one) for one in messages] == [document.text for document in dialogues(0, 5).documents()]
    assert [load(folder).render(one) for one in messages] == [render(one) for one in messages]
    document = next(chats(messages, subject.render).documents())
    first = subject.prepare([document.text]).ids[0]
    assert subject.pieces(first[:2]) == ["<|endoftext|>", "<|user|>"] and int((first == first[0]).sum()) == 1
    with pytest.raises(BadInput, match="has no chat template"):
        load("pocket-mini").render(messages[0])


def test_only_the_assistants_words_are_learned_in_dialogues_and_blocks_cross_documents():
    ids = torch.tensor([[0, 7, 1, 2, 9, 8, 3, 4, 9, 7, 5, 9, 8, 6, 9]])  # 7: user, 8: assistant, 9: end
    assert _answering(ids, 7, 8, 9)[0].nonzero()[:, 0].tolist() == [5, 6, 7, 12, 13]
    rows = _in_blocks(torch.arange(25), 8).rows
    assert rows.ids.shape == (3, 8) and (rows.document == 0).all() and torch.equal(rows.positions[1], torch.arange(8))
    assert torch.equal(rows.targets[:, :-1], rows.ids[:, 1:])


def test_fine_tuning_teaches_it_to_answer_and_what_is_kept_is_the_same(taught):
    subject, folder = taught
    documents = list(dialogues(2, 40, split="test").documents())

    def loss(model) -> float:
        inputs = subject.prepare([document.text for document in documents])
        said = _answering(inputs.ids, *subject.tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"]))
        said = said[:, :-1] & inputs.mask[:, 1:]
        with torch.no_grad():
            chance = model.run(inputs).logits[:, :-1].log_softmax(-1)
        return -float(chance.gather(2, inputs.ids[:, 1:, None])[..., 0][said].mean())

    before = chat_file.chat(seed=0, blocks=16, rows=16)
    assert loss(subject) < 0.6 * loss(before)
    assert load(folder).fingerprint == subject.fingerprint
