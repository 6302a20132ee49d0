"""A small OpenID Connect provider on the loopback interface, which takes everyone for one person.

Run as a program with a port and an address of mail: discovery, keys, the redirect with a code, and
a signed token for it.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PORT, EMAIL = int(sys.argv[1]), sys.argv[2]
ISSUER = f"http://127.0.0.1:{PORT}"
CLIENT, SECRET = "etp", "a secret of the test"
KEY = rsa.generate_private_key(65537, 2048)
asked: dict[str, str] = {}
"""The nonce that came with each code."""


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def token(nonce: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "1", "aud": CLIENT, "iat": now, "exp": now + 600,
              "nonce": nonce, "email": EMAIL}  # fmt: skip
    parts = [{"alg": "RS256", "kid": "k"}, claims]
    signed = ".".join(text(json.dumps(part).encode()) for part in parts)
    mark = KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{text(mark)}"


class Provider(BaseHTTPRequestHandler):
    def answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self.answer({
                "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token", "jwks_uri": f"{ISSUER}/keys",
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })  # fmt: skip
        elif parts.path == "/keys":
            public = KEY.public_key().public_numbers()
            key = {"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256"}
            self.answer({"keys": [key | {"n": number(public.n), "e": number(public.e)}]})
        elif parts.path == "/authorize":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            assert query["client_id"] == CLIENT
            code = str(len(asked))
            asked[code] = query.get("nonce", "")
            back = urlencode({"code": code, "state": query["state"]})
            self.send_response(302)
            self.send_header("location", f"{query['redirect_uri']}?{back}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        code = parse_qs(body)["code"][0]
        self.answer({"access_token": "x", "token_type": "Bearer", "expires_in": 600,
                     "id_token": token(asked.pop(code))})  # fmt: skip

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Provider).serve_forever()
