"""Authorization headers that must be rejected: an endless sequence of every kind, determined by the seed."""

import base64
import hashlib
import hmac
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.conftest import SECRET

JOB, OTHER = "job-1", "job-2"
NOW = int(time.time())
HASHES: dict[str, Callable[..., Any]] = {
    "HS256": hashlib.sha256,
    "HS384": hashlib.sha384,
    "HS512": hashlib.sha512,
}
#: secrets that an attacker may guess
GUESSES = ["", "secret", SECRET[:-1], SECRET + "\n", SECRET.upper(), "test", f"test:{SECRET}", SECRET[::-1], "0" * 32]
KIDS: list[Any] = [
    "", "other", "TEST", " test", "test ", "test\x00", "test\n", "tеst", "../../../dev/null", "/dev/null", "file:///etc/passwd",
    "http://127.0.0.1/keys", "' OR '1'='1", "test,test", "%74est", "t" * 5_000, None, 0, 1.5, True, [], ["test"], {}, {"test": "test"},
]  # fmt: skip
ALGORITHMS: list[Any] = [
    "none", "None", "NONE", "nOnE", "", " HS256", "hs256", "HS256 ", "HS384", "HS512", "RS256", "RS512", "ES256", "PS256", "EdDSA", "A128KW",
    "dir", "HS256\x00", "HЅ256", None, 0, True, [], ["HS256"], {"alg": "HS256"}, "../HS256",
]  # fmt: skip
#: invalid claims; they are signed with the right secret
CLAIMS: list[dict[str, Any]] = [
    {"exp": NOW - 100}, {"exp": 0}, {"exp": -1}, {"exp": 1e300}, {"exp": 10**400}, {"iat": str(NOW - 10)}, {"exp": float("inf")}, {"exp": float("nan")}, {"exp": "never"},
    {"exp": None}, {"exp": []}, {"exp": {}}, {"exp": "9" * 400}, {"iat": NOW + 10_000}, {"iat": "now"}, {"iat": None},
    {"iat": float("inf")}, {"iat": [NOW]}, {"nbf": NOW + 10_000}, {"nbf": "later"}, {"nbf": float("inf")}, {"iss": "evil"}, {"iss": ["stoker"]}, {"iss": None},
    {"iss": "stoker/"}, {"iss": "Stoker"}, {"aud": "other"}, {"aud": ""}, {"aud": None}, {"aud": []}, {"aud": "Callback"},
    {"aud": {"callback": 1, "api": 1}}, {"aud": [["callback"]]}, {"aud": 1},
]  # fmt: skip
NESTED = b'{"alg":"HS256","kid":' + b"[" * 6_000
Header = str


class Forgery(NamedTuple):
    """A header and its kind, which a failing test names."""

    kind: str
    header: Header
    #: the audiences that must reject it
    gates: tuple[str, ...] = ("callback", "api")


def forgeries(seed: int) -> Iterator[Forgery]:
    """Yield forgeries without end."""
    chance = random.Random(seed)
    kinds = (
        algorithm,
        guessed,
        named,
        claimed,
        misused,
        cut,
        flipped,
        swapped,
        padded,
        doubled,
        strange,
        nested,
        schemed,
    )
    for number in itertools.count():
        kind = kinds[number % len(kinds)]
        for forgery in kind(chance):
            yield (
                forgery._replace(kind=kind.__name__)
                if isinstance(forgery, Forgery)
                else Forgery(kind.__name__, forgery)
            )


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _parts(header: Any, claims: Any) -> str:
    return ".".join(_b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims))


def signed(header: Any, claims: Any, secret: str = SECRET, hash_name: str = "HS256") -> str:
    parts = _parts(header, claims)
    return f"{parts}.{_b64(hmac.new(secret.encode(), parts.encode(), HASHES[hash_name]).digest())}"


def head(**changes: Any) -> dict[str, Any]:
    return {"alg": "HS256", "typ": "JWT", "kid": "test"} | changes


def of_job(job_id: Any, **changes: Any) -> dict[str, Any]:
    return {"iss": "stoker", "aud": "callback", "job_id": job_id, "iat": NOW - 10, "exp": NOW + 20_000} | changes


def of_api(scope: Any = "jobs:read jobs:write datasets:notify", **changes: Any) -> dict[str, Any]:
    return {"iss": "stoker", "aud": "api", "sub": "x", "scope": scope, "iat": NOW - 10, "exp": NOW + 20_000} | changes


def _valid_claims(chance: random.Random) -> dict[str, Any]:
    return chance.choice([of_job(JOB), of_api()])


def algorithm(chance: random.Random) -> Iterator[str]:
    """Another algorithm: unsigned, and signed with the secret."""
    alg, claims = chance.choice(ALGORITHMS), _valid_claims(chance)
    yield f"Bearer {_parts(head(alg=alg), claims)}."
    for name in HASHES:
        if name != alg or name != "HS256":
            yield f"Bearer {signed(head(alg=alg), claims, hash_name=name)}"


def guessed(chance: random.Random) -> Iterator[str]:
    """Signed with a guessed secret."""
    guess = chance.choice([*GUESSES, chance.randbytes(16).hex()])
    yield f"Bearer {signed(head(), _valid_claims(chance), guess)}"


def named(chance: random.Random) -> Iterator[str]:
    """Another key ID, no key ID, and keys inside the token."""
    yield f"Bearer {signed(head(kid=chance.choice(KIDS)), _valid_claims(chance))}"
    yield f"Bearer {signed({'alg': 'HS256'}, _valid_claims(chance))}"
    own = {"jku": "http://127.0.0.1/", "x5u": "http://127.0.0.1/", "jwk": {"kty": "oct", "k": _b64(b"x" * 32)}}
    yield f"Bearer {signed(head(**own), _valid_claims(chance), 'x' * 32)}"


def claimed(chance: random.Random) -> Iterator[str]:
    """Invalid claims and missing claims, correctly signed."""
    wrong, claims = chance.choice(CLAIMS), _valid_claims(chance)
    yield f"Bearer {signed(head(), claims | wrong)}"
    missing = chance.choice(["iss", "aud", "iat", "exp"])
    yield f"Bearer {signed(head(), {name: value for name, value in claims.items() if name != missing})}"
    yield f"Bearer {signed(head(), chance.choice([[], 'x', 1, None, [claims]]))}"


def misused(chance: random.Random) -> Iterator[Forgery]:
    """Valid tokens for another job or scope, and claims of a wrong type."""
    other = chance.choice(
        [OTHER, JOB.upper(), JOB + " ", JOB + "\x00", f"{JOB}/../{OTHER}", "job-１", "", "*", "%", JOB[:-1], f"{JOB},"]
    )
    yield Forgery("", f"Bearer {signed(head(), of_job(other))}")
    strange = chance.choice([None, 1, True, [JOB], {JOB: JOB}, [[JOB]]])
    yield Forgery("", f"Bearer {signed(head(), of_job(strange))}")
    scope = chance.choice(
        [
            "",
            "jobs:admin",
            "JOBS:READ",
            "jobs:read,jobs:write",
            ["x jobs:read jobs:write y"],
            None,
            1,
            {"a jobs:read b": 1},
            "jobs:*",
            "jobs: read",
        ]
    )
    yield Forgery("", f"Bearer {signed(head(), of_api(scope))}")
    yield Forgery("", f"Bearer {signed(head(), of_api(job_id=JOB))}", ("callback",))
    twice = json.dumps(of_job(OTHER))[:-1] + f', "aud": "callback", "job_id": "{OTHER}"}}'
    yield Forgery("", f"Bearer {signed(head(), twice.encode())}")


def cut(chance: random.Random) -> Iterator[str]:
    """Parts of a token."""
    token = signed(head(), _valid_claims(chance))
    parts = token.split(".")
    yield f"Bearer {token[: chance.randrange(len(token) - 1)]}"
    yield f"Bearer {token[chance.randrange(1, len(token)) :]}"
    dropped = chance.randrange(3)
    yield "Bearer " + ".".join(part for number, part in enumerate(parts) if number != dropped)
    yield f"Bearer {parts[0]}.{parts[1]}."
    yield f"Bearer ..{parts[2]}"


def flipped(chance: random.Random) -> Iterator[str]:
    """One character changed; not the last, some bits of which are unused."""
    token = signed(head(), _valid_claims(chance))
    place = chance.randrange(len(token) - 1)
    other = chance.choice([char for char in "ABCxyz019-_." if char != token[place]])
    yield f"Bearer {token[:place]}{other}{token[place + 1 :]}"
    changed = token.swapcase()
    yield f"Bearer {changed}"


def swapped(chance: random.Random) -> Iterator[str]:
    """One token's claims with another's signature."""
    one, other = (signed(head(), claims).split(".") for claims in (of_job(OTHER), of_api("none")))
    wanted = _parts(head(), _valid_claims(chance))
    yield f"Bearer {wanted}.{chance.choice([one, other])[2]}"
    yield f"Bearer {one[0]}.{other[1]}.{one[2]}"


def padded(chance: random.Random) -> Iterator[str]:
    """White space, padding and characters that base64 decoders skip."""
    token = signed(head(), _valid_claims(chance))
    place = chance.randrange(1, len(token))
    yield f"Bearer {token[:place]}{chance.choice([' ', chr(9), chr(0), '=', '!', '%', '+', '/', chr(0x2028), 'é', ', '])}{token[place:]}"
    yield f"Bearer {token}{chance.choice(['=', '==', '.', '..', '.x', ' x', chr(0), ', Bearer x', ';', '%00'])}"


def doubled(chance: random.Random) -> Iterator[str]:
    """Two tokens, joined as a server joins two headers."""
    tokens = [signed(head(), of_job(OTHER)), signed(head(), _valid_claims(chance))]
    chance.shuffle(tokens)
    yield "Bearer " + ", Bearer ".join(tokens)
    yield "Bearer " + ",".join(tokens)


def strange(chance: random.Random) -> Iterator[str]:
    """Random text."""
    text = "".join(
        chr(chance.choice([chance.randrange(32, 127), chance.randrange(160, 256)]))
        for _ in range(chance.randrange(200))
    )
    yield text
    yield f"Bearer {text}"
    yield f"Bearer {_b64(chance.randbytes(20))}.{_b64(chance.randbytes(40))}.{_b64(chance.randbytes(32))}"
    yield f"Bearer {signed(chance.choice([[], 'x', 1, None, {}, b'{', bytes([255, 254])]), _valid_claims(chance))}"
    yield "Bearer " + "." * chance.randrange(10)


def nested(chance: random.Random) -> Iterator[str]:
    """Deep, long and invalid JSON, for which a decoder may raise other errors."""
    yield f"Bearer {_b64(NESTED)}.{_b64(b'{}')}.{_b64(b'x')}"
    yield f"Bearer {_parts(head(kid='x' * chance.randrange(10_000)), _valid_claims(chance))}.x"
    yield f"Bearer {_b64(b'{' + b'9' * 5_000)}.e30.x"
    yield f"Bearer {signed(head(), NESTED)}"
    yield f"Bearer {signed(head(crit=['b64'], b64=False), _valid_claims(chance))}"


def schemed(chance: random.Random) -> Iterator[str]:
    """Another scheme, and no scheme."""
    token = signed(head(), _valid_claims(chance))
    scheme = chance.choice(
        [
            "",
            "Basic ",
            "Token ",
            "Bearer",
            "Bearer\t",
            "Bearer:",
            "Bearer  ",
            " Bearer ",
            "Вearer ",
            "JWT ",
            "Bearer Bearer ",
        ]
    )
    yield f"{scheme}{token}"
