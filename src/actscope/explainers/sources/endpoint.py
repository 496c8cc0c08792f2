"""A language model behind a URL that speaks the OpenAI protocol (`/chat/completions`): vLLM, llama.cpp, Ollama, providers."""

import contextlib
import email.utils
import functools
import ipaddress
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from actscope.core.errors import BadInput
from actscope.core.plain import plain
from actscope.core.source import Answer, Failed, Prompt

__all__ = ["Endpoint"]

_BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
_NEVER = {401, 402, 403, 404, 405}
_BYTES_A_TOKEN = 3  # of English about 4: rather too many tokens than too few


class Endpoint:
    """One model at one address.

    url: up to the version, such as http://localhost:8000/v1. key_env: the environment variable that holds the key; it is
    read for each question, sent to this address alone, over https unless that is this machine or a private address, and
    never kept or shown. timeout: seconds for a whole answer. most_bytes: of an answer's body; a longer one is cut off and
    counts as none. structured: whether to send the schema as response_format (None: until the server refuses it); the
    prompt asks for JSON all the same. settings: more fields of the request, such as {"seed": 1}; None leaves a field out.

    Redirects are not followed, and neither proxies nor passwords are taken from the environment. Raises BadInput for
    addresses that cannot be.
    """

    at_once = None

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_env: str = "ACTSCOPE_API_KEY",
        temperature: float = 0.0,
        timeout: float = 120.0,
        most_bytes: int = 1 << 20,
        structured: bool | None = None,
        settings: Mapping[str, object] | None = None,
    ):
        self.url = _checked(url)
        self.model, self.timeout, self.most_bytes = model, timeout, most_bytes
        self._key_env, self._structured = key_env, structured
        self._settings = {"temperature": temperature, **(settings or {})}
        self.name = json.dumps([self.url, model, self._settings], sort_keys=True)
        self._client = _client(timeout)  # makes one

    def tokens(self, prompt: Prompt) -> int:
        """A third of the bytes, the schema's with them, and a few for each turn."""
        sent = [json.dumps(prompt.schema), *(turn["content"] for turn in prompt.messages)]
        return sum(8 + -(-len(one.encode()) // _BYTES_A_TOKEN) for one in sent)

    def ask(self, prompt: Prompt) -> Answer:
        """One request, or two where the server turns out not to take a schema. Raises Failed and BadInput."""
        body = {"model": self.model, "messages": prompt.messages, "max_tokens": prompt.most, **self._settings}
        body = {name: value for name, value in body.items() if value is not None}
        if self._structured is not False:
            form = {"name": "answer", "strict": True, "schema": dict(prompt.schema)}
            try:
                return self._post({**body, "response_format": {"type": "json_schema", "json_schema": form}})
            except _Refused as refused:
                if self._structured:
                    raise Failed(refused.why, again=False) from refused
        try:
            answer = self._post(body)
        except _Refused as refused:
            raise Failed(refused.why, again=False) from refused
        self._structured = False
        return answer

    def _post(self, body: Mapping[str, object]) -> Answer:
        import httpx2

        sent = json.dumps(body).encode()
        began = time.monotonic()
        headers = {"content-type": "application/json", "accept-encoding": "identity", **self._authorization()}
        came = bytearray()
        started = False
        try:
            with self._client() as client, client.stream("POST", self.url, content=sent, headers=headers) as response:
                started = response.status_code == 200
                for piece in response.iter_raw():
                    came += piece[: self.most_bytes + 1 - len(came)]
                    if len(came) > self.most_bytes:
                        break
                    if time.monotonic() - began > self.timeout:
                        raise Failed(f"no whole answer within {self.timeout:g} s", billed=started)
        except httpx2.TimeoutException as error:
            raise Failed(
                f"no whole answer within {self.timeout:g} s", billed=not isinstance(error, httpx2.ConnectTimeout)
            ) from error
        except httpx2.ConnectError as error:
            raise Failed(f"no connection to {self._place}") from error
        except httpx2.HTTPError as error:
            raise Failed(
                "the connection broke off in an answer" if started else "the connection broke off", billed=True
            ) from error
        return self._read(response, self._without_key(bytes(came)))

    def _read(self, response: Any, came: bytes) -> Answer:
        status = response.status_code
        if status != 200:
            self._no_answer(status, response.headers, came)
        if len(came) > self.most_bytes:
            raise Failed(f"an answer of more than {self.most_bytes:,} bytes, cut off", body=came, billed=True)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Failed("a compressed answer, which was not asked for", body=came, billed=True)
        try:
            said = json.loads(came)
        except (ValueError, RecursionError) as error:
            raise Failed("an answer that is not JSON", body=came, billed=True) from error
        try:
            return _answer(said, self.model)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise Failed("JSON that is no chat completion", body=came, billed=True) from error

    def _no_answer(self, status: int, headers: Mapping[str, str], came: bytes) -> None:
        """Raises what a status other than 200 means."""
        said = self._shown(came)
        if 300 <= status < 400:
            raise BadInput(
                f"{self._place} sends us elsewhere (status {status}); redirects are not followed. Give the final address."
            )
        if status in _NEVER:
            what = "the key" if status in (401, 403) else "the account" if status == 402 else "the address and the model"
            raise BadInput(
                f"{self._place} answers with status {status}{said}. Look at {what}; the key is read from {self._key_env}."
            )
        if status in _BUSY or status >= 500:
            raise Failed(f"status {status}", after=_seconds(headers.get("retry-after")))
        raise _Refused(f"status {status}{said}")

    def _shown(self, came: bytes) -> str:
        """What a server says about an error, fit for a terminal."""
        text = plain(came[:200].decode("utf-8", "replace"))
        return f" ({text})" if text else ""

    def _without_key(self, came: bytes) -> bytes:
        """What came, where a server sends the key back without it. Shorter ones are placeholders such as "none"."""
        key = os.environ.get(self._key_env, "").encode()
        return came.replace(key, b"***") if len(key) >= 16 else came

    def _authorization(self) -> dict[str, str]:
        key = os.environ.get(self._key_env)
        if not key:
            return {}
        if self.url.startswith("http:") and not _near(urlsplit(self.url).hostname or ""):
            raise BadInput(
                f"{self._key_env} holds a key, and {self._place} is reached without encryption; give an https address, or "
                f"unset {self._key_env}."
            )
        if not key.isascii() or not key.isprintable():
            raise BadInput(f"{self._key_env} holds characters that no key has; set it again.")
        return {"authorization": f"Bearer {key}"}

    @property
    def _place(self) -> str:
        return urlsplit(self.url).netloc


class _Refused(Exception):
    """The server will not take this request as it is."""

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


def _client(timeout: float) -> Callable[[], Any]:
    """A connection a question: one kept open may be dead when it is needed, and then nobody knows whether it was billed."""
    import httpx2

    limits = httpx2.Timeout(timeout, connect=min(10.0, timeout))
    trusted = httpx2.create_ssl_context(trust_env=False)
    return functools.partial(httpx2.Client, verify=trusted, timeout=limits, follow_redirects=False, trust_env=False)


def _checked(url: str) -> str:
    """The address of the chat completions. Raises BadInput."""
    shown = plain(url.rpartition("@")[2])  # without a password
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"{shown!r} is no address ({error}); expected one such as http://localhost:8000/v1.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput(f"{shown!r} is no address of a server; expected one such as http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(
            "The address holds a name, a password or a query; give it without, and the key in an environment variable."
        )
    number = _number(host)
    if number is not None and (number.is_link_local or number.is_multicast or number.is_unspecified):
        raise BadInput(f"{host} is an address that no model answers at (link-local, multicast or none); give the server's own.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path}/chat/completions"


def _near(host: str) -> bool:
    """This machine, or an address of a private network."""
    number = _number(host)
    return host == "localhost" or (number is not None and number.is_private)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, however it is written; None for a name."""
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166 and 0xa9.254 are addresses too
    with contextlib.suppress(ValueError):
        number = ipaddress.ip_address(host)
        return getattr(number, "ipv4_mapped", None) or number
    return None


def _answer(said: Any, model: str) -> Answer:
    """Raises KeyError, IndexError, TypeError, AttributeError or ValueError for anything but a chat completion."""
    choice = said["choices"][0]
    message, ended = choice["message"], choice.get("finish_reason") or "stop"
    text = message.get("content")
    if text is None and isinstance(message.get("refusal"), str):
        text, ended = message["refusal"], "refusal"
    if text is None and ended != "stop":
        text = ""
    if not isinstance(text, str) or not isinstance(ended, str):
        raise TypeError("no text")
    usage = said.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    known = all(type(count) is int and 0 <= count < 1 << 31 for count in counts)
    answered = said.get("model")
    answered = answered if isinstance(answered, str) else model
    f"{text}{ended}{answered}".encode()  # lone surrogates cannot be kept
    return Answer(text, answered, ended, *(counts if known else (None, None)))


def _seconds(header: str | None) -> float | None:
    """Retry-After, in seconds from now; None where it says nothing that can be read."""
    if header is None:
        return None
    with contextlib.suppress(ValueError):
        wanted = float(header)
        return wanted if 0 <= wanted < 1e9 else None
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return None
