"""A chat template is a program by somebody else: it writes the dialogue, or it is ended; it does nothing besides."""

import time
from pathlib import Path

import pytest

from actscope.core.errors import BadInput
from actscope.subjects import _rendering
from actscope.subjects.load import load

GOOD = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
TALK = [{"role": "user", "content": " Hello\u00e9 "}, {"role": "assistant", "content": "{{ 7 * 7 }}"}]


@pytest.fixture(scope="module")
def chat(folder):
    return load(folder)


def written(chat, template: str) -> str:
    chat.tokenizer.chat_template = template
    return chat.render(TALK)


def test_the_text_is_what_transformers_writes(chat):
    for template in (GOOD, "{{ bos_token }}{{ messages | length }}{% if true %}\n  x\n{% endif %}", "{{ messages | tojson }}"):
        chat.tokenizer.chat_template = template
        theirs = chat.tokenizer.apply_chat_template(TALK, tokenize=False)
        assert chat.render(TALK) == theirs.removeprefix("<|endoftext|>")
    assert "{{ 7 * 7 }}" in written(chat, GOOD), "a dialogue is no template"


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['json'] }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{% set f = '%c%c' %}{{ (''|attr('__class__'))|attr('__mro__') }}",
    "{{ messages.append({'role': 'x'}) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ ''.join.__self__.__class__ }}",
    "{{ no_such() }}",
    "{% for",
    "{{ raise_exception('only users') }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_reaches_nothing(chat, template: str, tmp_path: Path, monkeypatch):
    canary = tmp_path / "canary"
    try:
        text = written(chat, template.replace("CANARY", str(canary)))
    except BadInput as error:
        assert "refuses this dialogue" in str(error)
    else:
        assert not any(word in text for word in ("<class", "module", "root:", "<function", "builtin")), text
    assert not canary.exists()


BOMBS = {
    "a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a great text": "{{ 'a' * 10 ** 11 }}",
    "a doubling text": "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "a great number": "{{ 10 ** (10 ** 9) }}",
    "a great output": "{% for i in range(30000) %}{{ 'a' * 1000 }}{% endfor %}",
    "a great field": "{{ '%999999999d' % 1 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_never_ends_or_fills_the_memory_is_ended(chat, name: str, monkeypatch):
    written(chat, GOOD)  # the process stands
    monkeypatch.setattr(_rendering, "SECONDS", 1.5)
    began = time.monotonic()
    with pytest.raises(BadInput, match="refuses this dialogue"):
        written(chat, BOMBS[name])
    assert time.monotonic() - began < 15
    monkeypatch.setattr(_rendering, "SECONDS", 60.0)
    assert written(chat, GOOD).startswith("<|user|>Hello"), "the next dialogue is written"
