"""Tokens: which are believed, against a real provider's keys on a real HTTP server."""

import asyncio
import base64
import hmac
import json
import threading
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from iris_flower_prediction import settings
from iris_flower_prediction.api import auth, keys, tokens
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.errors import ProjectError

ISSUER, AUDIENCE = "https://login.example.com/", "predictions"
# A symmetric key: whoever verifies with it could also sign.
SYMMETRIC = b'{"keys": [{"kty": "oct", "kid": "rsa-2", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}'
MAKERS = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "weak": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate,
}


@cache
def private(kid: str):
    """The provider's key ``kind`` or ``kind-number``."""
    return MAKERS[kid.split("-")[0]]()


def public(kid: str, **more) -> dict:
    kind = kid.split("-")[0]
    algorithm = {"p": ECAlgorithm, "e": OKPAlgorithm}.get(kind[0], RSAAlgorithm)
    return {**algorithm.to_jwk(private(kid).public_key(), as_dict=True), "kid": kid, **more}


class Provider:
    """Serves a JWKS; ``status``, ``document`` and ``delay`` (s) may be changed at any time."""

    def __init__(self) -> None:
        self.status, self.delay, self.fetched, self.headers = 200, 0.0, 0, {}
        self.publish("rsa", "p256", "p384", "ed")
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.fetched += 1
                time.sleep(provider.delay)
                self.send_response(provider.status)
                for name, value in provider.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):  # who waited has given up
                    self.wfile.write(provider.document)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks?secret=hidden"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, *kids: str | dict) -> None:
        entries = [kid if isinstance(kid, dict) else public(kid) for kid in kids]
        self.document = json.dumps({"keys": entries}).encode()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def asked(provider, tmp_path) -> auth.Authenticator:
    return authenticator(provider.url, tmp_path)


def authenticator(jwks: str, tmp_path) -> auth.Authenticator:
    config = settings.Authentication(
        required=True,
        keys=str(tmp_path / "keys.json"),
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks=jwks,
    )
    asked = auth.Authenticator(config)
    asked.tokens.load()
    return asked


def token(kid: str = "rsa", algorithm: str = "RS256", headers: dict | None = None, **claims) -> str:
    """A token as the provider makes it; a claim that is None is left out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 600}
    kept = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    headers = {"kid": kid, **(headers or {})}
    return jwt.encode(kept, private(kid), algorithm, headers)


def by_hand(header: dict, key: bytes = b"") -> str:
    """A token that no library would make: HMAC with ``key``, or without a signature."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": now + 600}
    parts = [encoded(json.dumps(part).encode()) for part in (header, claims)]
    signed = ".".join(parts)
    signature = hmac.digest(key, signed.encode(), "sha256") if key else b""
    return f"{signed}.{encoded(signature)}"


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


async def ask(asked: auth.Authenticator, credential: str) -> str:
    return await asked.identify([(b"authorization", f"Bearer {credential}".encode("latin-1"))])


def identify(asked: auth.Authenticator, credential: str) -> str:
    return asyncio.run(ask(asked, credential))


def refusal(asked: auth.Authenticator, credential: str) -> str:
    """The sentence of the refusal."""
    with pytest.raises(Problem) as caught:
        identify(asked, credential)
    problem = caught.value
    assert (problem.status, problem.code) == (401, "authentication")
    assert problem.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    assert not any(part in problem.detail for part in credential.split(".") if len(part) > 8)
    return problem.detail


def wait_until(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [
        ("rsa", "RS256"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("ed", "EdDSA"),
    ],
)
def test_a_token_names_its_subject(asked, kid, algorithm):
    made = token(kid, algorithm)
    assert identify(asked, made) == "token:someone"
    assert identify(asked, made) == "token:someone"


def test_an_audience_may_be_one_of_several(asked):
    assert identify(asked, token(aud=["other", AUDIENCE])) == "token:someone"


def test_keys_and_tokens_go_together(provider, tmp_path):
    key = keys.create(tmp_path / "keys.json", "shop")
    asked = authenticator(provider.url, tmp_path)
    assert identify(asked, key) == "shop"
    assert identify(asked, token()) == "token:someone"
    with pytest.raises(Problem, match="or an API key or a token"):
        asyncio.run(asked.identify([]))


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"exp": int(time.time()) - 3600}, "expired"),
        ({"exp": None}, "lacks the claim exp"),
        ({"exp": "soon"}, "not valid"),
        ({"exp": float("inf")}, "not valid"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"iat": int(time.time()) + 3600}, "not valid yet"),
        ({"aud": "another"}, "another audience"),
        ({"aud": [AUDIENCE + "2", "another"]}, "another audience"),
        ({"aud": None}, "lacks the claim aud"),
        ({"iss": "https://login.example.com"}, "another issuer"),
        ({"iss": None}, "lacks the claim iss"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": ""}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "é"}, "subject"),
        ({"sub": "x" * 256}, "subject"),
    ],
)
def test_claims_that_are_not_right_are_refused(asked, claims, sentence):
    assert sentence in refusal(asked, token(**claims))


def test_the_clocks_may_differ_by_half_a_minute(asked):
    now = int(time.time())
    assert identify(asked, token(exp=now - 20)) == "token:someone"
    assert identify(asked, token(nbf=now + 20)) == "token:someone"
    refusal(asked, token(exp=now - 40))
    refusal(asked, token(nbf=now + 40))


def test_a_token_that_was_changed_is_refused(asked):
    header, claims, signature = token().split(".")
    text = json.loads(base64.urlsafe_b64decode(claims + "=="))
    forged = encoded(json.dumps({**text, "sub": "admin"}).encode())
    for changed in (
        f"{header}.{forged}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}.{'A' * len(signature)}",
    ):
        assert "not valid" in refusal(asked, changed)


def test_only_the_algorithms_of_a_key_are_allowed(provider, asked, tmp_path):
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = private("rsa").public_key().public_bytes(*pem)
    for kid in ("rsa", "p256"):
        for none in ("none", "None", "NONE", "", None):
            assert "not valid" in refusal(asked, by_hand({"alg": none, "kid": kid}))
        assert "not valid" in refusal(asked, by_hand({"alg": "HS256", "kid": kid}, pem))
        assert "not valid" in refusal(asked, by_hand({"kid": kid}, pem))
    assert "not valid" in refusal(asked, token("rsa", "PS512"))
    assert "not valid" in refusal(asked, token("rsa", headers={"kid": "p256"}))
    provider.publish(public("rsa", alg="RS256"))
    strict = authenticator(provider.url, tmp_path)
    assert identify(strict, token()) == "token:someone"
    assert "not valid" in refusal(strict, token("rsa", "RS384"))


def test_a_key_in_the_token_itself_is_no_key(provider, asked):
    own = public("rsa-attacker")
    attacked = {"kid": "rsa", "jwk": own, "jku": provider.url, "x5u": provider.url}
    assert "not valid" in refusal(asked, token("rsa-attacker", headers=attacked))
    assert "not signed with a key" in refusal(asked, token("rsa-attacker", headers={"jwk": own}))


def test_keys_that_cannot_verify_are_left_out(provider, tmp_path):
    secret = {"kty": "oct", "kid": "oct", "k": encoded(b"s" * 32), "alg": "HS256"}
    for useless in (secret, public("rsa", use="enc"), public("rsa", alg="RSA-OAEP"), {"kid": "x"}):
        provider.publish(useless, public("p256"))
        asked = authenticator(provider.url, tmp_path)
        assert identify(asked, token("p256", "ES256")) == "token:someone"
        refusal(asked, token())
    provider.publish(secret, "rsa")
    asked = authenticator(provider.url, tmp_path)
    refusal(asked, by_hand({"alg": "HS256", "kid": "oct"}, b"s" * 32))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_weak_key_is_refused(provider, tmp_path):
    provider.publish("weak")
    refusal(authenticator(provider.url, tmp_path), token("weak"))


@pytest.mark.parametrize(
    "credential",
    [
        "..",
        "a.b.c",
        "e30.e30.",
        f"{encoded(b'[' * 5000)}.e30.e30",
        f"{encoded(b'[]')}.e30.e30",
        f"{encoded(b'{')}.e30.e30",
        f"{encoded(bytes(range(128, 256)))}.e30.e30",
        f"{'A' * 9000}.e30.e30",
        "é.é.é",
        "a.b.c.d.e",
    ],
)
def test_what_is_no_token_is_refused(asked, credential):
    refusal(asked, credential)


@pytest.mark.parametrize("header", [{"kid": 7}, {"kid": None}, {"kid": []}, {"crit": ["x"]}, {}])
def test_strange_headers_are_refused(provider, asked, header):
    refusal(asked, by_hand({"alg": "RS256", **header}, b"key"))
    assert provider.fetched == 1


def test_a_new_key_is_fetched_when_a_token_names_it(provider, asked):
    provider.publish("rsa", "rsa-2", "p256-2")
    assert identify(asked, token("rsa-2")) == "token:someone"
    assert provider.fetched == 2
    provider.publish("rsa", "rsa-3")
    assert "not signed with a key" in refusal(asked, token("rsa-3"))
    assert provider.fetched == 2, "asked again too soon"


def test_a_key_that_is_gone_takes_its_tokens_along(provider, asked):
    old = token("p256", "ES256")
    assert identify(asked, old) == "token:someone"
    provider.publish("rsa-2")
    asked.tokens.load()
    assert "not signed with a key" in refusal(asked, old)


def test_invented_keys_do_not_cause_a_fetch_each(provider, asked):
    provider.delay = 0.2

    async def attack():
        made = [token(headers={"kid": f"invented-{n}"}) for n in range(50)]
        return await asyncio.gather(*(ask(asked, each) for each in made), return_exceptions=True)

    answers = asyncio.run(attack())
    assert all(isinstance(answer, Problem) and answer.status == 401 for answer in answers)
    assert provider.fetched == 2


def test_the_event_loop_is_not_held_up_by_a_slow_provider(provider, asked):
    provider.delay = 0.5

    async def both():
        known, unknown = token(), token(headers={"kid": "invented"})
        waiting = asyncio.create_task(ask(asked, unknown))
        await asyncio.sleep(0)
        started = time.monotonic()
        assert await ask(asked, known) == "token:someone"
        took = time.monotonic() - started
        assert not waiting.done()
        with pytest.raises(Problem):
            await waiting
        return took

    assert asyncio.run(both()) < 0.3


def test_known_keys_stay_in_use_while_the_provider_is_down(provider, asked, monkeypatch, caplog):
    monkeypatch.setattr(tokens, "AGAIN_SECONDS", 0)
    documents = (b"{", b'{"keys": []}', b"[7]", SYMMETRIC)
    for status, document in ((500, b""), *((200, each) for each in documents)):
        provider.status, provider.document = status, document
        refusal(asked, token("rsa-2"))
        assert identify(asked, token(sub=f"{status}")) == f"token:{status}"
    provider.stop()
    refusal(asked, token("rsa-2"))
    assert identify(asked, token(sub="down")) == "token:down"
    assert len(caplog.records) == 1, "told once"
    assert "hidden" not in caplog.text
    assert "secret=" not in caplog.text


def test_keys_are_fetched_now_and_then_in_the_background(provider, asked):
    asked.refresh()
    assert provider.fetched == 1, "none is due yet"
    provider.publish("rsa-2")
    asked.tokens._due = time.monotonic()
    asked.refresh()
    asked.refresh()
    wait_until(lambda: [key.key_id for key in asked.tokens.known] == ["rsa-2"])
    assert identify(asked, token("rsa-2")) == "token:someone"
    assert provider.fetched == 2


def test_a_verified_token_is_not_verified_again(asked, monkeypatch):
    made = token()
    identify(asked, made)
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    assert identify(asked, made) == "token:someone"


def test_a_token_expires_while_it_is_remembered(asked, monkeypatch):
    monkeypatch.setattr(tokens, "LEEWAY_SECONDS", 0)
    made = token(exp=int(time.time()) + 5)
    assert identify(asked, made) == "token:someone"
    assert list(asked.tokens.verified) == [sha256(made.encode()).digest()]
    time.sleep(5.1)
    assert "expired" in refusal(asked, made)


def test_only_so_many_tokens_are_remembered(asked, monkeypatch):
    monkeypatch.setattr(tokens, "REMEMBERED", 3)
    for number in range(4):
        identify(asked, token("p256", "ES256", sub=f"client-{number}"))
    kept = [client for client, _ in asked.tokens.verified.values()]
    assert kept == ["token:client-1", "token:client-2", "token:client-3"]


def test_a_refused_token_is_not_remembered(asked):
    for made in (token(aud="another"), token(sub="a\nb"), token("rsa-2")):
        refusal(asked, made)
    assert not asked.tokens.verified


@pytest.mark.parametrize(
    "jwks",
    [
        "http://login.example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://127.0.0.1@example.com/jwks",
        "http://10.0.0.1/jwks",
        "ftp://localhost/jwks",
        "http://[::1/jwks",
        "https://[::1/jwks",
        "http:///jwks",
        "https://somebody@127.0.0.1/jwks",
        "jwks.json",
    ],
)
def test_keys_that_others_could_replace_on_the_way_are_refused(jwks, tmp_path):
    with pytest.raises(ValueError, match="must be an https URL"):
        authenticator(jwks, tmp_path)


@pytest.mark.parametrize(
    "jwks", ["https://login.example.com/jwks", "http://localhost:1/jwks", "http://[::1]:1/jwks"]
)
def test_addresses_that_may_be_asked(jwks):
    config = settings.Authentication(issuer=ISSUER, audience=AUDIENCE, jwks=jwks)
    assert auth.Authenticator(config).tokens


def test_no_start_without_the_keys_of_the_issuer(provider, tmp_path, monkeypatch):
    def problem(jwks=provider.url) -> str:
        with pytest.raises(ProjectError, match="cannot be read") as caught:
            authenticator(jwks, tmp_path)
        assert "hidden" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    for document in (b'{"keys": [7]}', b"[" * 100_000, b"{", b'{"keys": []}', b"[]", SYMMETRIC):
        provider.document = document
        problem()
    provider.status, provider.headers = 302, {"Location": provider.url}
    assert "302" in problem()
    assert provider.fetched == 7, "followed a redirection"
    monkeypatch.setattr(tokens, "FETCH_SECONDS", 0.2)
    provider.status, provider.delay = 200, 1
    assert "timed out" in problem()
    provider.stop()
    assert "refused" in problem()


def test_without_tokens_their_library_is_not_loaded(project):
    script = project.folder / "libraries.py"
    script.write_text(
        f"import sys\nfrom {settings.PACKAGE} import settings\n"
        f"from {settings.PACKAGE}.api import auth\n"
        "auth.Authenticator(settings.Authentication(keys='none.json'))\n"
        "print('jwt' in sys.modules, 'cryptography' in sys.modules)\n",
        "utf-8",
    )
    assert project.run(script).stdout.split() == ["False", "False"]


def test_no_token_is_ever_logged(asked, caplog):
    caplog.set_level("DEBUG")
    made = [token(), token(exp=1), token("rsa-2"), by_hand({"alg": "none", "kid": "rsa"})]
    identify(asked, made[0])
    for each in made[1:]:
        refusal(asked, each)
    for each in made:
        for part in filter(None, each.split(".")):
            assert part not in caplog.text
