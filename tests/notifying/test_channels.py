"""Each channel against a real server: its own form, its signature, and what each answer means."""

import base64
import hashlib
import hmac
import threading
import time
from email.header import decode_header, make_header
from email.message import Message as Mail
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from finery.core.clock import FakeClock
from finery.core.errors import InvalidSpec
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.notifying import wire
from finery.notifying.channels import registry, webhook
from finery.notifying.specs import Notice
from finery.notifying.wire import NotSent, Wire
from finery.notifying.words import Message, compose
from tests.notifying.conftest import notice
from tests.notifying.receivers import MailBox, Receiver, certificate, mail_server, receiving

SECRET = "SECRET-nobody-may-see"
KEY = "0123abcd"


def message(*notices: Notice, language: str = "en", **changes: object) -> Message:
    return compose(KEY, notices or [notice(job_id=41, **changes)], language, public_url="https://finery.example.org")  # type: ignore[arg-type]


def send(
    kind: str, settings: Settings, said: Message | None = None, secrets: dict[str, str] | None = None, **params: object
) -> None:
    store = SecretStore(settings)
    for name, value in (secrets or {}).items():
        store.write(name, value)
    entry = registry.get(kind)
    entry.target(said or message(), registry.params(kind, params), Wire(settings, FakeClock()))


def hook(
    kind: str, settings: Settings, receiver: Receiver, *, signed: bool = False, said: Message | None = None
) -> None:
    secrets = {"URL": receiver.url, **({"SIGN": SECRET} if signed else {})}
    send(kind, settings, said, secrets, url="URL", **({"secret": "SIGN"} if signed else {}))


HOOKS = {
    "webhook": "ok",
    "slack": "ok",
    "dingtalk": '{"errcode":0,"errmsg":"ok"}',
    "feishu": '{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}',
}


def test_every_kind_is_tried_here() -> None:
    assert {entry.name for entry in registry.all()} == {*HOOKS, "email"}
    assert all(entry.summary for entry in registry.all())


# webhook


def test_a_webhook_gets_what_happened_as_data_and_a_signature_over_it(settings: Settings, receiver: Receiver) -> None:
    hook("webhook", settings, receiver, signed=True)

    [taken] = receiver.taken
    headers = taken.headers
    signed = f"{KEY}.{headers['webhook-timestamp']}.".encode() + taken.body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == headers["idempotency-key"] == KEY
    assert headers["content-type"].startswith("application/json")
    assert taken.json["title"] == "Finery · sums: grad_explosion"
    assert taken.json["link"] == "https://finery.example.org/runs/41"
    assert taken.json["notices"] == [notice(job_id=41).model_dump()]


def test_the_signature_is_that_of_the_standard_webhooks_example(settings: Settings, receiver: Receiver) -> None:
    """The worked example of the specification, with its key behind `whsec_`."""
    found = webhook.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    )
    assert found == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_nothing_is_signed(settings: Settings, receiver: Receiver) -> None:
    hook("webhook", settings, receiver)

    assert "webhook-signature" not in receiver.taken[0].headers


# slack


def test_slack_gets_blocks_in_which_texts_of_runs_are_no_markup(settings: Settings, receiver: Receiver) -> None:
    hook(
        "slack", settings, receiver, said=message(message="<!channel> *bold* <http://evil.example|here>", rule="<@U1>")
    )

    body = receiver.taken[0].json
    title, facts, link = body["blocks"]
    assert title == {"type": "header", "text": {"type": "plain_text", "text": "Finery · sums: <@U1>", "emoji": False}}
    assert facts["text"]["type"] == "plain_text"
    assert "Seen: <!channel> *bold* <http://evil.example|here>" in facts["text"]["text"]
    assert link["text"] == {"type": "mrkdwn", "text": "<https://finery.example.org/runs/41|Open the run>"}
    assert body["text"] == "Finery · sums: &lt;@U1&gt;"
    assert len(title["text"]["text"]) <= 150


# dingtalk


def test_dingtalk_gets_a_text_and_an_address_that_is_signed(settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [(200, HOOKS["dingtalk"])]
    store = SecretStore(settings)
    store.write("URL", f"http://127.0.0.1:{receiver.port}/robot/send?access_token=abc+/=def")
    store.write("SIGN", SECRET)
    send("dingtalk", settings, message(language="zh"), url="URL", secret="SIGN")

    [taken] = receiver.taken
    query = {name: values[0] for name, values in parse_qs(urlsplit(taken.path).query).items()}
    assert query["timestamp"] == str(int(FakeClock().now().timestamp() * 1000))
    expected = hmac.new(SECRET.encode(), f"{query['timestamp']}\n{SECRET}".encode(), hashlib.sha256).digest()
    assert query["sign"] == base64.b64encode(expected).decode()
    assert query["access_token"] == "abc /=def"  # as any server reads what the user has written
    assert taken.json["msgtype"] == "text"
    lines = taken.json["text"]["content"].splitlines()
    assert lines[0] == "Finery · sums：grad_explosion"
    assert lines[-1] == "https://finery.example.org/runs/41"


# feishu


def test_feishu_gets_a_post_that_is_signed(settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [(200, HOOKS["feishu"])]
    hook("feishu", settings, receiver, signed=True, said=message(language="zh", message='<at user_id="all"></at>'))

    body = receiver.taken[0].json
    expected = hmac.new(f"{body['timestamp']}\n{SECRET}".encode(), b"", hashlib.sha256).digest()
    assert body["sign"] == base64.b64encode(expected).decode()
    assert body["timestamp"] == str(int(FakeClock().now().timestamp()))
    assert body["msg_type"] == "post"
    post = body["content"]["post"]["zh_cn"]
    assert post["title"] == "Finery · sums：grad_explosion"
    assert [{"tag": "text", "text": '现象：<at user_id="all"></at>'}] in post["content"]
    assert post["content"][-1] == [{"tag": "a", "text": "打开运行页面", "href": "https://finery.example.org/runs/41"}]


# what answers mean


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize(
    ("status", "is_final"), [(400, True), (404, True), (410, True), (429, False), (500, False), (503, False)]
)
def test_a_status_tells_whether_another_try_may_help(
    kind: str, status: int, is_final: bool, settings: Settings, receiver: Receiver
) -> None:
    receiver.answers = [(status, "no_service")]
    receiver.headers = {"retry-after": "42"}

    with pytest.raises(NotSent, match=f"status {status}: no_service") as error:
        hook(kind, settings, receiver)
    assert (error.value.is_final, error.value.wait_seconds) == (is_final, 42)


@pytest.mark.parametrize(
    ("kind", "answer", "is_final", "wait"),
    [
        ("dingtalk", '{"errcode":310000,"errmsg":"sign not match"}', True, 0),
        ("dingtalk", '{"errcode":300001,"errmsg":"token is not exist"}', True, 0),
        ("dingtalk", '{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}', False, 600),
        ("dingtalk", '{"errcode":-1,"errmsg":"system busy"}', False, 0),
        ("dingtalk", "<html>login to the wifi</html>", False, 0),
        ("feishu", '{"code":19021,"msg":"sign match fail or timestamp is not within one hour"}', True, 0),
        ("feishu", '{"code":19024,"msg":"Key Words Not Found"}', True, 0),
        ("feishu", '{"code":11232,"data":{},"msg":"frequency limited"}', False, 60),
        ("feishu", "[]", False, 0),
    ],
)
def test_a_200_that_says_no_is_no_success(
    kind: str, answer: str, is_final: bool, wait: float, settings: Settings, receiver: Receiver
) -> None:
    receiver.answers = [(200, answer)]

    with pytest.raises(NotSent, match="refused by") as error:
        hook(kind, settings, receiver)
    assert (error.value.is_final, error.value.wait_seconds) == (is_final, wait)
    assert answer[2:12] in str(error.value)


@pytest.mark.parametrize("kind", HOOKS)
def test_a_redirect_is_not_followed(kind: str, settings: Settings, receiver: Receiver) -> None:
    with receiving(Receiver(answers=[(200, HOOKS[kind])])) as other:
        receiver.answers, receiver.headers = [(302, "")], {"location": other.url}

        with pytest.raises(NotSent, match="a redirect, which is not followed") as error:
            hook(kind, settings, receiver)
        assert error.value.is_final
        assert other.taken == []


@pytest.mark.parametrize("kind", HOOKS)
def test_addresses_of_this_machine_need_leave(kind: str, home: Path, receiver: Receiver) -> None:
    with pytest.raises(NotSent, match="FINERY_ALLOW_PRIVATE_ADDRESSES") as error:
        hook(kind, Settings(home=home), receiver)
    assert error.value.is_final
    assert receiver.taken == []


def test_a_server_that_hangs_is_left_after_a_time(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_TIMEOUT_SECONDS", 0.2)
    receiver.hang = threading.Event()
    begun = time.monotonic()

    with pytest.raises(NotSent, match="no answer") as error:
        hook("slack", settings, receiver)
    assert not error.value.is_final
    assert time.monotonic() - begun < 5


def test_nobody_at_the_address_is_worth_another_try(settings: Settings) -> None:
    with pytest.raises(NotSent, match="no answer") as error:
        send("slack", settings, secrets={"URL": "http://127.0.0.1:9/"}, url="URL")
    assert not error.value.is_final


@pytest.mark.parametrize(("kind", "status"), [("webhook", 400), ("slack", 400), ("dingtalk", 200), ("feishu", 200)])
def test_no_failure_shows_a_secret_that_the_server_repeats(
    kind: str, status: int, settings: Settings, receiver: Receiver
) -> None:
    is_signed = kind != "slack"
    said = (
        f"bad {receiver.url} path /hook/T0KEN-nobody-may-see token T0KEN-nobody-may-see {SECRET if is_signed else ''}"
    )
    receiver.answers = [(status, said + "x" * 10_000)]

    with pytest.raises(NotSent) as error:
        hook(kind, settings, receiver, signed=is_signed)
    assert "nobody-may-see" not in str(error.value)
    assert "***" in str(error.value)
    assert len(str(error.value)) < 250


def test_a_secret_that_is_not_there_is_said_to_be_missing(settings: Settings) -> None:
    with pytest.raises(NotSent, match="finery secrets set GONE") as error:
        send("slack", settings, url="GONE")
    assert error.value.is_final


# email


def mail(settings: Settings, port: int | None, said: Message | None = None, **params: object) -> None:
    base = {
        "host": "localhost",
        "port": port,
        "sender": "finery@example.org",
        "to": ("me@example.org", "you@example.org"),
    }
    send("email", settings, said, {"PASSWORD": "PASSW0RD-nobody-may-see"}, **{**base, **params})


def test_a_mail_has_subject_text_and_an_id_that_stays(settings: Settings) -> None:
    box = MailBox()
    with mail_server(box) as port:
        mail(settings, port, message(language="zh"), security="none")
        mail(settings, port, message(language="zh"), security="none")

    one, two = box.mails
    assert decoded(one, "Subject") == "Finery · sums：grad_explosion"
    assert one["To"] == "me@example.org, you@example.org"
    assert one["Message-ID"] == two["Message-ID"] == f"<{KEY}@finery.invalid>"
    text = one.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "现象：grad_norm > 100 (grad_norm = 153)" in text
    assert "打开运行页面: https://finery.example.org/runs/41" in text
    assert one.get_content_type() == "text/plain"


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd does not count TLS from the first byte
@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_a_mail_goes_behind_tls_with_a_login(
    security: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    box = MailBox()
    options = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"ssl_context": context}
    options |= {} if security == "starttls" else {"auth_require_tls": False}
    with mail_server(box, with_login=True, **options) as port:
        mail(settings, port, security=security, user="me", password="PASSWORD")

    assert box.logins == [("me", "PASSW0RD-nobody-may-see")]
    assert len(box.mails) == 1


def test_a_wrong_password_is_final_and_not_shown(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with (
        mail_server(MailBox(), with_login=True, tls_context=context) as port,
        pytest.raises(NotSent, match="code 535") as error,
    ):
        mail(settings, port, user="somebody", password="PASSWORD")
    assert error.value.is_final
    assert "nobody-may-see" not in str(error.value)


def test_the_port_is_that_of_the_security_unless_it_is_given(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def away(_: Wire, host: str, port: int, timeout_seconds: float) -> None:
        asked.append(port)
        raise ConnectionRefusedError

    monkeypatch.setattr(Wire, "connect", away)
    for security in ("starttls", "ssl", "none"):
        with pytest.raises(NotSent):
            mail(settings, None, security=security)
    assert asked == [587, 465, 25]


def test_a_server_without_starttls_gets_no_mail(settings: Settings) -> None:
    box = MailBox()
    with mail_server(box) as port, pytest.raises(NotSent, match="STARTTLS") as error:
        mail(settings, port)
    assert error.value.is_final
    assert box.mails == []


def test_a_certificate_that_nobody_vouches_for_is_refused(settings: Settings, tmp_path: Path) -> None:
    context, _ = certificate(tmp_path)
    box = MailBox()
    with mail_server(box, tls_context=context) as port, pytest.raises(NotSent, match="certificate") as error:
        mail(settings, port)
    assert error.value.is_final
    assert box.mails == []


@pytest.mark.parametrize(("refusal", "is_final"), [("451 try later", False), ("554 no thanks", True)])
def test_codes_of_mail_servers_tell_whether_another_try_may_help(
    refusal: str, is_final: bool, settings: Settings
) -> None:
    box = MailBox()
    box.refusal = refusal
    with mail_server(box) as port, pytest.raises(NotSent, match=refusal.replace(" ", ": ", 1)) as error:
        mail(settings, port, security="none")
    assert error.value.is_final == is_final


def test_one_refused_recipient_is_said_and_the_others_have_the_mail(settings: Settings) -> None:
    box = MailBox()
    box.refused = "you@example.org"
    with mail_server(box) as port, pytest.raises(NotSent, match="you@example.org: 550 no such user") as error:
        mail(settings, port, security="none")
    assert error.value.is_final
    assert len(box.mails) == 1


def test_a_mail_server_of_this_machine_needs_leave(home: Path) -> None:
    box = MailBox()
    with mail_server(box) as port, pytest.raises(NotSent, match="FINERY_ALLOW_PRIVATE_ADDRESSES"):
        mail(Settings(home=home), port, security="none")
    assert box.mails == []


@pytest.mark.parametrize(
    "params",
    [
        {"user": "me"},
        {"password": "PASSWORD"},
        {"user": "me", "password": "PASSWORD", "security": "none"},
        {"to": ()},
        {"to": ("me@example.org\nBcc: all@example.org",)},
        {"sender": "Finery <a@example.org>"},
        {"host": "smtp.example.org/x"},
    ],
)
def test_wrong_parameters_of_mail_are_refused(params: dict[str, object], settings: Settings) -> None:
    with pytest.raises(InvalidSpec, match="email"):
        mail(settings, 25, **params)


def decoded(mail_: Mail, name: str) -> str:
    return str(make_header(decode_header(str(mail_[name]))))
