"""Receivers of mails and webhooks on loopback, for tests.

Called with a directory, in which it makes a CA, ca.pem, and a certificate for localhost, and with the
port of the mail server without TLS, 0 for any. Says on its standard output, one JSON object a line: first the ports, then all that arrives. A mail to slow@… is
answered when there is a file named release in the directory. Ends with its standard input.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def say(what):
    print(json.dumps(what), flush=True)


CERTIFICATES = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -subj '/CN=test authority' -keyout ca.key -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -subj '/CN=localhost' -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
    -extfile extensions -out server.pem
"""


class Mails:
    def __init__(self, server):
        self.server = server

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox here"
        if address.startswith("later"):
            return "451 4.2.1 mailbox is busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        say({
            "by": self.server,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "mail": envelope.content.decode("utf-8"),
            "login": (session.auth_data.login.decode() if session.authenticated else None),
        })
        if any(address.startswith("slow") for address in envelope.rcpt_tos):
            while not os.path.exists(f"{sys.argv[1]}/release"):
                await asyncio.sleep(0.05)
        return "250 2.0.0 taken as number 7"


def knows(server, session, envelope, mechanism, data):
    right = data.login == b"skep" and data.password == b"hush hush"
    return AuthResult(success=right, handled=right, auth_data=data)


async def hooked(reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = first.split()[1]
        answer = {"/broken": "500 Broken", "/moved": "302 Moved"}.get(path, "204 Done")
        if answer.startswith("2"):
            say({"by": "hook", "path": path, "headers": headers, "body": body.decode()})
        text = b"" if answer.startswith("2") else b"the disk is full\n"
        writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text)
        await writer.drain()
    finally:
        writer.close()


async def main():
    subprocess.run(["sh", "-ec", CERTIFICATES], cwd=sys.argv[1], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{sys.argv[1]}/server.pem", f"{sys.argv[1]}/server.key")
    loop = asyncio.get_running_loop()
    login = {"authenticator": knows, "auth_required": True, "auth_require_tls": False}

    def smtp(name, **more):
        return lambda: SMTP(Mails(name), hostname="mail.example", **more)

    async def listen(factory, port=0, **more):
        server = await loop.create_server(factory, "127.0.0.1", port, **more)
        return server.sockets[0].getsockname()[1]

    hook = await asyncio.start_server(hooked, "127.0.0.1", 0)
    secure = await asyncio.start_server(hooked, "127.0.0.1", 0, ssl=context)
    say({
        "plain": await listen(smtp("plain"), int(sys.argv[2])),
        "starttls": await listen(smtp("starttls", tls_context=context, require_starttls=True,
                                      **login)),
        "tls": await listen(smtp("tls", **login), ssl=context),
        "hook": hook.sockets[0].getsockname()[1],
        "hook_tls": secure.sockets[0].getsockname()[1],
    })
    # Whoever started this is gone when nothing can come any more.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
