"""The signature agrees with the reference implementation and survives any bytes."""

import time
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import ValidationError
from standardwebhooks import Webhook

from chipmill.errors import RequestError
from chipmill.formats.webhook import (
    MegabatchCompleted,
    RunBegun,
    begin_id,
    claimed_run,
    completion_id,
    decode_key,
    encode_key,
    headers,
    sign,
    verify,
)

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
NOW = 1_800_000_000
BODY = b'{"a":1}'
keys = st.binary(min_size=24, max_size=64)
message_ids = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)


def raw(found: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Give headers the form that they have on the wire."""
    return [(name.encode(), value.encode()) for name, value in found.items()]


def signed(
    key: bytes = KEY, *, message_id: str = "m-1", at: int = NOW, body: bytes = BODY
) -> dict[str, str]:
    """Make the headers of a good message."""
    return headers(key, run="run-1", message_id=message_id, timestamp=at, body=body)


def replaced(name: str, value: bytes) -> list[tuple[bytes, bytes]]:
    """Give good headers with one of them replaced."""
    return [(k, value if k == name.encode() else v) for k, v in raw(signed())]


@given(key=keys, message_id=message_ids, text=st.text(max_size=200))
def test_reference_accepts_our_signature(key: bytes, message_id: str, text: str) -> None:
    """What we sign any receiver of Standard Webhooks believes."""
    now = int(time.time())
    found = headers(key, run="r", message_id=message_id, timestamp=now, body=text.encode())
    Webhook(encode_key(key)).verify(text, found, json_parse=False)
    assert found["webhook-id"] == message_id


@given(key=keys, message_id=message_ids, text=st.text(max_size=200))
def test_we_accept_the_reference_signature(key: bytes, message_id: str, text: str) -> None:
    """What any sender of Standard Webhooks signs we believe."""
    moment = datetime.fromtimestamp(NOW, UTC)
    signature = Webhook(encode_key(key)).sign(message_id, moment, text)
    found = [
        (b"Webhook-Id", message_id.encode()),
        (b"WEBHOOK-TIMESTAMP", str(NOW).encode()),
        (b"webhook-signature", signature.encode()),
    ]
    assert verify([key], found, text.encode(), now=NOW) == message_id


@given(
    found=st.lists(
        st.tuples(
            st.sampled_from(
                [b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"chipmill-run", b"x"]
            ),
            st.binary(max_size=60) | st.from_regex(rb"(v1,[A-Za-z0-9+/=]{0,50} ?){0,10}"),
        ),
        max_size=8,
    ),
    body=st.binary(max_size=60),
)
def test_any_bytes_are_refused_without_a_crash(
    found: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """A verifier that raises turns a stranger's bytes into our failure."""
    assert verify([KEY], found, body, now=NOW) is None
    assert claimed_run(found) is None or isinstance(claimed_run(found), str)


@given(position=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_breaks_the_signature(position: int, bit: int) -> None:
    """The signature covers each bit of the body."""
    body = bytearray(BODY)
    body[position] ^= 1 << bit
    assert verify([KEY], raw(signed()), bytes(body), now=NOW) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", b"m-2"),
        ("webhook-id", b"a.b"),
        ("webhook-id", b"m" * 129),
        ("webhook-id", b"m-1\n"),
        ("webhook-id", b""),
        ("webhook-timestamp", b" 1800000000"),
        ("webhook-timestamp", b"1800_000000"),
        ("webhook-timestamp", b"1800000000.0"),
        ("webhook-timestamp", b"01800000000"),
        ("webhook-timestamp", b"9" * 500),
        ("webhook-timestamp", b"nan"),
        ("webhook-timestamp", "१८".encode()),
        ("webhook-signature", b"v1"),
        ("webhook-signature", b"v1,"),
        ("webhook-signature", b"v1,a,b"),
        ("webhook-signature", b"v1,\xff\xfe"),
    ],
)
def test_malformed_headers_are_refused(name: str, value: bytes) -> None:
    """Only the one form that was signed counts."""
    assert verify([KEY], replaced(name, value), BODY, now=NOW) is None


def test_a_repeated_header_is_refused() -> None:
    """With two values it is not clear which was signed; a proxy may see the other one."""
    for name, value in raw(signed()):
        again = [*raw(signed()), (name.upper(), value)]
        assert verify([KEY], again, BODY, now=NOW) is None
        assert claimed_run(again) is None


def test_a_missing_header_is_refused() -> None:
    """Nothing has a default."""
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        rest = {k: v for k, v in signed().items() if k != name}
        assert verify([KEY], raw(rest), BODY, now=NOW) is None


@pytest.mark.parametrize(
    ("age", "answer"),
    [(0, "m-1"), (300, "m-1"), (-300, "m-1"), (301, None), (-301, None), (NOW, None)],
)
def test_old_and_future_messages_are_refused(age: int, answer: str | None) -> None:
    """A recorded message loses its worth after five minutes, either way."""
    assert verify([KEY], raw(signed(at=NOW - age)), BODY, now=NOW) == answer


def test_both_keys_of_a_rotation_count_and_no_other() -> None:
    """Trainers go on while the master changes."""
    for key in (KEY, OTHER):
        assert verify([OTHER, KEY], raw(signed(key)), BODY, now=NOW) == "m-1"
    assert verify([OTHER], raw(signed(KEY)), BODY, now=NOW) is None
    assert verify([], raw(signed(KEY)), BODY, now=NOW) is None


def test_one_good_signature_of_several_is_enough_but_nine_are_too_many() -> None:
    """Rotation sends several; an unbounded list would be work that anyone can order."""
    good = sign(KEY, message_id="m-1", timestamp=NOW, body=BODY).encode()
    others = b" ".join([b"v1a,AAAA", b"garbage", b"v1,AAAA", b"", b"v2,x", b"v1,x", b"y"])
    assert verify([KEY], replaced("webhook-signature", others + b" " + good), BODY, now=NOW)
    more = others + b" z " + good
    assert verify([KEY], replaced("webhook-signature", more), BODY, now=NOW) is None


@given(key=keys)
def test_a_key_survives_its_text(key: bytes) -> None:
    """A key is the same with prefix, without it, and without padding."""
    text = encode_key(key)
    assert text.startswith("whsec_")
    assert decode_key(text) == decode_key(text.removeprefix("whsec_")) == key
    assert decode_key(text.rstrip("=") + "\n") == key


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!!!", "ключ", encode_key(bytes(23))])
def test_a_bad_key_is_refused_and_never_shown(text: str) -> None:
    """A short key can be guessed, and an error message ends up in logs."""
    with pytest.raises(RequestError) as caught:
        decode_key(text)
    bare = text.removeprefix("whsec_")
    assert not bare or bare not in str(caught.value)


def test_bad_names_are_refused_before_they_are_sent() -> None:
    """The sender hears of it at once, not by a refusal without a reason."""
    with pytest.raises(RequestError, match="message id"):
        headers(KEY, run="run-1", message_id="a.b", timestamp=NOW, body=BODY)
    with pytest.raises(RequestError, match="run name"):
        headers(KEY, run="../x", message_id="m", timestamp=NOW, body=BODY)


def test_message_ids_are_stable_and_distinct() -> None:
    """A retry has the same id, so that it counts once; nothing else has."""
    first = completion_id("r", 1, epoch=0, megabatch="m", rank=0)
    assert len(first) == 40
    assert first == completion_id("r", 1, epoch=0, megabatch="m", rank=0)
    others = {
        completion_id("r", 1, epoch=0, megabatch="m", rank=1),
        completion_id("r", 1, epoch=1, megabatch="m", rank=0),
        completion_id("r", 2, epoch=0, megabatch="m", rank=0),
        completion_id("r1", 1, epoch=0, megabatch="m", rank=0),
        completion_id("r", 1, epoch=0, megabatch="m0", rank=0),
        begin_id("r", 1, plan="m"),
        first,
    }
    assert len(others) == 7


COMPLETED = (
    '{"type":"megabatch.completed","timestamp":"2026-01-01T00:00:00Z","data":{"megabatch":"m",'
    '"run":"r","attempt":1,"rank":0,"world":2,"epoch":0,"minibatches":7,"checkpoint":null}}'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rank":0', '"rank":2'),
        ('"rank":0', '"rank":-1'),
        ('"rank":0', '"rank":true'),
        ('"rank":0', '"rank":0.0'),
        ('"rank":0', '"rank":"0"'),
        ('"world":2', '"world":0'),
        ('"attempt":1', '"attempt":0'),
        ('"attempt":1', '"attempt":' + "9" * 30),
        ('"run":"r"', '"run":"../r"'),
        ('"run":"r"', '"run":"r\\n"'),
        ('"megabatch":"m"', '"megabatch":""'),
        ('"megabatch":"m"', '"megabatch":null'),
        ('"epoch":0,', ""),
        ('"epoch":0', '"epoch":0,"more":1'),
        ("00:00:00Z", "00:00:00"),
        ("megabatch.completed", "megabatch.removed"),
    ],
)
def test_only_the_exact_form_is_a_message(old: str, new: str) -> None:
    """Nothing is converted, guessed or ignored: True is not rank 1."""
    good = MegabatchCompleted.model_validate_json(COMPLETED)
    assert good.data.minibatches == 7
    with pytest.raises(ValidationError):
        MegabatchCompleted.model_validate_json(COMPLETED.replace(old, new))


def test_a_message_survives_its_bytes() -> None:
    """Both ends use this one form."""
    begun = RunBegun.model_validate(
        {
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "data": {"run": "r", "attempt": 1, "world": 2, "plan": "p"},
        }
    )
    assert RunBegun.model_validate_json(begun.model_dump_json()) == begun
