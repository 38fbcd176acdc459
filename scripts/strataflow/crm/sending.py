"""One batch to an HTTP endpoint, tried until it is acknowledged or refused.

Every try sends the same bytes with the same headers, so that the endpoint can tell a repetition from news:

=============================  ==============================================================
``Idempotency-Key``            SHA-256 of the body
``X-Strataflow-Sequence``      number of the batch; rises, with gaps, never falls
``X-Strataflow-Signature``     ``sha256=`` and HMAC-SHA256 of the body with the shared key
=============================  ==============================================================

Waits between tries double and are spread by a number taken from the batch itself, so that many senders don't come back
together and a replay waits as long as the run did.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from strataflow.errors import StepFailed

if TYPE_CHECKING:
    import httpx

    from strataflow.crm.targets import Target

# Answers that say "not now"; any other one from 300 on says "never".
_TRY_AGAIN = {408, 425, 429}
_SAID_LENGTH = 200

Sleep = Callable[[float], None]


def body_of(about: dict[str, Any], lines: list[str]) -> bytes:
    """A batch as JSON: what it is about, then the changes, one per line."""
    head = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
    changes = ",\n".join(lines)
    return f'{head[:-1]},"changes":[\n{changes}\n]}}'.encode()


def headers_of(body: bytes, sequence: int, key: bytes) -> dict[str, str]:
    """The headers of a batch."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "Idempotency-Key": hashlib.sha256(body).hexdigest(),
        "X-Strataflow-Sequence": str(sequence),
        "X-Strataflow-Signature": f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}",
    }


def wait_after(target: Target, key: str, attempt: int) -> float:
    """Seconds to wait after a try: doubling, between half and one and a half of that, up to the target's limit."""
    spread = 0.5 + int(hashlib.sha256(f"{key}:{attempt}".encode()).hexdigest()[:8], 16) / 2**32
    return min(target.longest_wait_seconds, target.first_wait_seconds * 2 ** (attempt - 1) * spread)


def send(
    client: httpx.Client, target: Target, body: bytes, sequence: int, key: bytes, sleep: Sleep = time.sleep
) -> int:
    """Post a batch until the endpoint acknowledges it.

    Args:
        client: with the target's timeout; it must not follow redirects.
        sleep: how to wait.

    Returns:
        How many tries it took.

    Raises:
        StepFailed: the endpoint refuses it, or did not acknowledge it in ``target.tries`` tries.
    """
    headers = headers_of(body, sequence, key)
    digest = headers["Idempotency-Key"]
    fault = ""
    for attempt in range(1, target.tries + 1):
        fault, asked_to_wait = _post(client, target, body, headers)
        if not fault:
            return attempt
        if attempt < target.tries:
            wait = wait_after(target, digest, attempt)
            sleep(min(target.longest_wait_seconds, max(wait, asked_to_wait)))
    raise StepFailed(
        f"target {target.name} did not acknowledge batch {sequence} in {target.tries} tries; the last: {fault}",
        where=target.url,
        todo="see why it does not answer, then deliver again: it goes on with this batch",
    )


def _post(client: httpx.Client, target: Target, body: bytes, headers: dict[str, str]) -> tuple[str, float]:
    """One try: what was wrong ("" if acknowledged), and how many seconds the endpoint asks to wait."""
    import httpx

    try:
        answer = client.post(target.url or "", content=body, headers=headers)
    except httpx.TransportError as fault:
        return f"{type(fault).__name__}: {fault}", 0
    if answer.is_success:
        return _acknowledged(answer, headers["Idempotency-Key"]), 0
    said = f"it answered {answer.status_code} {answer.text[:_SAID_LENGTH]}".rstrip()
    if answer.is_server_error or answer.status_code in _TRY_AGAIN:
        asked = answer.headers.get("Retry-After", "")
        return said, float(asked) if asked.isdigit() else 0
    raise StepFailed(
        f"target {target.name} refused batch {headers['X-Strataflow-Sequence']}: {said}",
        where=target.url,
        todo="mend what it refuses (the key, the address, a column it doesn't know), then deliver again",
    )


def _acknowledged(answer: httpx.Response, key: str) -> str:
    """Nothing wrong, unless the endpoint says that it acknowledges something else."""
    try:
        said = answer.json()
    except ValueError:
        return ""
    if isinstance(said, dict) and said.get("acknowledged", key) != key:
        return f"it acknowledged {said['acknowledged']} instead of {key}"
    return ""
